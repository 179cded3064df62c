// A broker of files (broker.h) as its host sees it: one process for all sandboxes whose policies let plugins read the
// same. What the host has named for one of them is told apart by a number, its session's.
//
// Some are kept when no sandbox has them any more, for those to come. One that is gone, or keeps silent for long, is not
// asked again: who finds it so gets another.
//
//   absl::StatusOr<std::shared_ptr<SharedBroker>> broker = SharedBroker::Get(policy);
//   const std::uint64_t session = (*broker)->NewSession();
//   SharedBroker::Answer answer = (*broker)->Ask(bytes, fd);
#ifndef DUNEBOX_SANDBOX_WORKER_SHARED_BROKER_H_
#define DUNEBOX_SANDBOX_WORKER_SHARED_BROKER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dunebox/policy.h"
#include "runtime/file_descriptor.h"
#include "sandbox/worker/fork_server.h"
#include "sandbox/worker/turns.h"

namespace dunebox::worker {

class SharedBroker {
 public:
  // The one that opens what `policy` names; where there is none, one is begun, and what it is asked meanwhile waits.
  // kUnavailable: none can be begun. Thread-safe, as everything here.
  static absl::StatusOr<std::shared_ptr<SharedBroker>> Get(const Policy& policy);
  ~SharedBroker();
  SharedBroker(const SharedBroker&) = delete;
  SharedBroker& operator=(const SharedBroker&) = delete;

  struct Answer {
    enum class Outcome : std::uint8_t {
      kCame,
      kIsGone,  // the broker; another may know
      kNone,    // it is silent, or the caller must stop
    };
    Outcome outcome = Outcome::kNone;
    std::string bytes;
    std::vector<runtime::FileDescriptor> files;
  };
  // A question and its answer; with a descriptor, if that is not negative. One at a time, in the order of asking, and
  // waited for until the deadline of the call that this thread is in.
  Answer Ask(const std::string& question, int fd);
  // What has no answer. That it comes is not certain.
  void Tell(const std::string& message);
  // The same with a descriptor, and it comes before whatever is asked later, unless the broker is gone.
  void Give(const std::string& message, int fd);

  bool is_gone() const { return is_gone_.load(std::memory_order_acquire); }
  // The same, or it has ended and nobody has asked it since.
  bool HasEnded() const;
  std::uint64_t NewSession() { return next_session_.fetch_add(1, std::memory_order_relaxed); }
  // What the kernel keeps it in: "seccomp", ...; or why there is none. Waits until it has started.
  absl::StatusOr<std::vector<std::string>> Confinement();

 private:
  SharedBroker(std::shared_ptr<ForkServer> server, runtime::FileDescriptor socket,
               std::shared_ptr<ForkServer::Begun> process)
      : server_(std::move(server)), socket_(std::move(socket)), process_(std::move(process)) {}
  static absl::StatusOr<std::shared_ptr<SharedBroker>> Begin(std::shared_ptr<ForkServer> server,
                                                             const Policy& policy);
  // With the turn.
  Answer::Outcome Start(std::uint64_t limit);
  Answer Converse(const std::string& question, int fd, std::uint64_t limit);
  Answer Receive(std::uint64_t limit);
  void Abandon();

  const std::shared_ptr<ForkServer> server_;
  const runtime::FileDescriptor socket_;
  const std::shared_ptr<ForkServer::Begun> process_;
  std::atomic<bool> is_gone_{false};
  std::atomic<std::uint64_t> next_session_{1};

  Turns turns_;           // whoever has the turn has what follows
  std::optional<absl::StatusOr<std::vector<std::string>>> started_;  // what it is kept in. Nothing: it has not said yet
  bool is_owed_ = false;  // the last question's answer has not come yet
  std::string room_;      // for an answer
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_SHARED_BROKER_H_
