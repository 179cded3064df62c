#include "sandbox/worker/shared_broker.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <list>
#include <optional>
#include <span>
#include <utility>

#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/worker/broker.h"
#include "sandbox/worker/channel.h"
#include "sandbox/worker/descriptors.h"
#include "sandbox/worker/protocol.h"
#include "sandbox/worker/wire.h"

namespace dunebox::worker {

using runtime::FileDescriptor;

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;   // nanoseconds
constexpr std::uint64_t kMostWait = 30 * kSecond;  // for an answer
constexpr std::uint64_t kMostOwed = kSecond;       // for one that nobody waits for any more
constexpr std::size_t kMostKept = 4;

absl::Status DoesNotStart() { return absl::UnavailableError("it does not start"); }

// Those that whoever asks next may have.
struct Kept {
  std::vector<std::string> readable, libraries;
  std::shared_ptr<ForkServer> server;
  std::shared_ptr<SharedBroker> broker;
};
struct Registry {
  Turns turns;
  std::list<Kept> kept;  // the last one asked for first
};

}  // namespace

absl::StatusOr<std::shared_ptr<SharedBroker>> SharedBroker::Get(const Policy& policy) {
  // Never destroyed: sandboxes may end while the process's statics do.
  static Registry& registry = *new Registry;
  const Turns::Turn turn(registry.turns, plugin::Instance::MustCallerStop);
  if (!turn.is_mine()) return absl::DeadlineExceededError("others are starting theirs");
  absl::StatusOr<std::shared_ptr<ForkServer>> server = ForkServer::Get();
  if (!server.ok()) return server.status();
  std::list<Kept>& kept = registry.kept;
  std::erase_if(kept, [&](const Kept& entry) { return entry.server != *server || entry.broker->HasEnded(); });
  const auto found = std::ranges::find_if(kept, [&](const Kept& entry) {
    return entry.readable == policy.readable && entry.libraries == policy.libraries;
  });
  if (found != kept.end()) {
    kept.splice(kept.begin(), kept, found);
    return found->broker;
  }
  absl::StatusOr<std::shared_ptr<SharedBroker>> begun = Begin(*server, policy);
  if (!begun.ok()) return begun.status();
  kept.push_front({policy.readable, policy.libraries, *server, *begun});
  if (kept.size() > kMostKept) kept.pop_back();
  return begun;
}

// Of what the policy says elsewhere it needs nothing.
absl::StatusOr<std::shared_ptr<SharedBroker>> SharedBroker::Begin(std::shared_ptr<ForkServer> server,
                                                                  const Policy& policy) {
  const std::string order =
      Serialize(StartOrder{.policy = {.readable = policy.readable, .libraries = policy.libraries}});
  if (order.size() > kMostBrokerMessage) {
    return absl::ResourceExhaustedError("a policy with more text than a broker takes");
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return DoesNotStart();
  FileDescriptor ours(ends[0]);
  const FileDescriptor theirs(ends[1]);
  const timeval most_wait{.tv_sec = kMostWait / kSecond, .tv_usec = 0};
  if (setsockopt(ours.get(), SOL_SOCKET, SO_SNDTIMEO, &most_wait, sizeof(most_wait)) != 0) return DoesNotStart();
  const int fd = theirs.get();
  absl::StatusOr<std::shared_ptr<ForkServer::Begun>> process = server->Begin(Role::kBroker, std::span(&fd, 1));
  if (!process.ok()) return process.status();
  std::shared_ptr<SharedBroker> broker(new SharedBroker(std::move(server), std::move(ours), *std::move(process)));
  // Where that is not possible any more its start tells why.
  (void)SendBytes(broker->socket_.get(), std::as_bytes(std::span(order)), {});
  return broker;
}

// Its answer to the policy.
SharedBroker::Answer::Outcome SharedBroker::Start(std::uint64_t limit) {
  const Answer answer = Receive(limit);
  if (answer.outcome == Answer::Outcome::kNone) return answer.outcome;
  Reader reader(answer.bytes);
  const std::optional<absl::Status> status = GetStatus(reader);
  if (status && status->ok()) {
    started_ = GetTexts(reader);
    return Answer::Outcome::kCame;
  }
  const absl::Status process = server_->Finish(*process_).status();
  started_ = status ? *status : process.ok() ? DoesNotStart() : process;
  return Answer::Outcome::kIsGone;
}

absl::StatusOr<std::vector<std::string>> SharedBroker::Confinement() {
  const std::uint64_t limit = Now() + kMostWait;
  const Turns::Turn turn(turns_, [&] { return plugin::Instance::MustCallerStop() || Now() >= limit; });
  if (!turn.is_mine()) return absl::DeadlineExceededError("others ask it");
  if (!started_ && Start(limit) != Answer::Outcome::kCame && !plugin::Instance::MustCallerStop()) Abandon();
  return started_ ? *started_ : DoesNotStart();
}

SharedBroker::~SharedBroker() {
  if (!plugin::IsOriginalProcess()) return;
  const absl::StatusOr<ForkServer::Child> child = server_->Finish(*process_);
  if (child.ok()) (void)server_->End(child->pid);
}

bool SharedBroker::HasEnded() const {
  pollfd entry{.fd = socket_.get(), .events = 0, .revents = 0};
  return is_gone() || (poll(&entry, 1, 0) == 1 && (entry.revents & POLLHUP) != 0);
}

void SharedBroker::Abandon() {
  shutdown(socket_.get(), SHUT_RDWR);
  is_gone_.store(true, std::memory_order_release);
}

SharedBroker::Answer SharedBroker::Receive(std::uint64_t limit) {
  Answer answer;
  if (!WaitForBytes(socket_.get(), limit, plugin::Instance::MustCallerStop)) return answer;
  room_.resize(kMostBrokerMessage);
  const ssize_t size = ReceiveBytes(socket_.get(), std::as_writable_bytes(std::span(room_)), answer.files);
  if (size > 0) {
    answer.outcome = Answer::Outcome::kCame;
    answer.bytes.assign(room_, 0, static_cast<std::size_t>(size));
  } else {
    answer.outcome = Answer::Outcome::kIsGone;
  }
  return answer;
}

// An answer that nobody has waited for would be the next question's.
SharedBroker::Answer SharedBroker::Converse(const std::string& question, int fd, std::uint64_t limit) {
  if (!started_) {
    const Answer::Outcome outcome = Start(limit);
    if (outcome != Answer::Outcome::kCame) return {.outcome = outcome};
  }
  if (is_owed_) {
    const Answer not_wanted = Receive(std::min(limit, Now() + kMostOwed));
    if (not_wanted.outcome != Answer::Outcome::kCame) {
      // Whom it is too slow for may ask another.
      return {.outcome = plugin::Instance::MustCallerStop() ? Answer::Outcome::kNone : Answer::Outcome::kIsGone};
    }
  }
  is_owed_ = SendBytes(socket_.get(), std::as_bytes(std::span(question)), std::span(&fd, fd >= 0 ? 1 : 0));
  if (!is_owed_) return {.outcome = Answer::Outcome::kIsGone};
  Answer answer = Receive(limit);
  is_owed_ = answer.outcome != Answer::Outcome::kCame;
  return answer;
}

SharedBroker::Answer SharedBroker::Ask(const std::string& question, int fd) {
  const std::uint64_t limit = Now() + kMostWait;
  const Turns::Turn turn(turns_, [&] { return plugin::Instance::MustCallerStop() || Now() >= limit; });
  if (!turn.is_mine()) return {};
  if (is_gone()) return {.outcome = Answer::Outcome::kIsGone};
  Answer answer = Converse(question, fd, limit);
  if (answer.outcome != Answer::Outcome::kCame && !plugin::Instance::MustCallerStop()) Abandon();
  return answer;
}

void SharedBroker::Tell(const std::string& message) {
  (void)SendBytes(socket_.get(), std::as_bytes(std::span(message)), {}, MSG_DONTWAIT);
}

void SharedBroker::Give(const std::string& message, int fd) {
  if (!SendBytes(socket_.get(), std::as_bytes(std::span(message)), std::span(&fd, 1))) Abandon();
}

}  // namespace dunebox::worker
