#include "sandbox/worker/remote_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/memory/address.h"
#include "runtime/signals/action.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/host_thread.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/plugin/run_callback.h"
#include "sandbox/plugin/shown_text.h"
#include "sandbox/plugin/without_pipe_signal.h"
#include "sandbox/worker/descriptors.h"

namespace dunebox::worker {

using internal::Callback;
using internal::CallbackFrame;
using internal::CallFrame;
using internal::CallResult;
using runtime::FileDescriptor;

namespace {

// How much later than its deadline a worker may answer, whose own watchdog ends calls, before it is
// killed.
constexpr std::uint64_t kGrace = 2'000'000'000;
// Where something is asked for piece by piece: what a busy machine copies at the least in a second.
constexpr double kLeastCopied = double{std::uint64_t{4} << 20};
constexpr std::uint64_t kLeastShared = std::uint64_t{1} << 20;
constexpr std::uint64_t kWindowStart = 0x1'0000, kWindowEnd = std::uint64_t{1} << 32;
constexpr std::uint64_t kMostDenials = std::uint64_t{1} << 20;

std::uint64_t DeadlineIn(absl::Duration time) {
  if (time == absl::InfiniteDuration()) return kNever;
  return Now() + static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(time));
}

std::uint64_t TimeOfThisThread() {
  timespec used;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(used.tv_nsec);
}

// When the host does not wait any more.
std::uint64_t LimitFor(std::uint64_t deadline) {
  return deadline == kNever ? kNever : std::max(deadline, Now()) + kGrace;
}

// For so many bytes in all, beside the time that any question has.
absl::Duration PatienceFor(absl::Duration time, std::uint64_t bytes) {
  return time + absl::Seconds(static_cast<double>(bytes) / kLeastCopied);
}

Failure FailureFor(std::optional<int> status) {
  if (!status) return {.kind = Failure::Kind::kTrap, .signal = SIGKILL};
  if (WIFSIGNALED(*status)) return {.kind = Failure::Kind::kTrap, .signal = WTERMSIG(*status)};
  return {.kind = Failure::Kind::kExited, .exit_status = WEXITSTATUS(*status)};
}

}  // namespace

// A line in the hands of the calling host thread, for a call and what is called from its callbacks.
class RemoteGuest::Held {
 public:
  explicit Held(Line& line) : line_(line) { line_.outer = std::exchange(innermost_, &line_); }
  ~Held() { innermost_ = line_.outer; }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  // Null: it has none of this guest.
  static Line* Of(const RemoteGuest& guest) {
    Line* line = innermost_;
    while (line != nullptr && &line->guest != &guest) line = line->outer;
    return line;
  }

 private:
  static thread_local Line* innermost_;
  Line& line_;
};

thread_local RemoteGuest::Line* RemoteGuest::Held::innermost_ = nullptr;

// ---- beginning and end --------------------------------------------------------------------------

absl::Status RemoteGuest::Breach() {
  return ToStatus({.kind = Failure::Kind::kTrap, .signal = SIGKILL});
}

std::uint64_t RemoteGuest::SharedSizeOf(const Policy& policy) {
  return PageDown(std::clamp(policy.memory_limit, kLeastShared, kMostShared));
}

absl::Status RemoteGuest::CheckStarted(const absl::Status& status) {
  if (!FailureOf(status).has_value()) return status;
  return absl::UnavailableError(
      absl::StrCat("the process for two walls ended while it started: ", status.message()));
}

absl::StatusOr<std::unique_ptr<plugin::Guest>> RemoteGuest::Create(const Policy& policy,
                                                                   std::uint64_t random) {
  plugin::NoteOriginalProcess();
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  std::unique_ptr<RemoteGuest> guest(new RemoteGuest(policy));
  if (absl::Status status = guest->Start(random); !status.ok()) return CheckStarted(status);
  return guest;
}

RemoteGuest::RemoteGuest(const Policy& policy)
    : policy_(policy),
      counts_{.host_threads = policy.host_threads,
              .plugin_threads = std::min(policy.plugin_threads, kMostPluginSlots)} {}

absl::Status RemoteGuest::Start(std::uint64_t random) {
  const StartOrder order{.policy = policy_, .random = random, .arena_size = SharedSizeOf(policy_)};
  if (absl::Status status = MakeShared(order.arena_size); !status.ok()) return status;
  if (absl::Status status = StartWorker(); !status.ok()) return status;
  return GiveOrder(order);
}

absl::Status RemoteGuest::MakeShared(std::uint64_t size) {
  absl::StatusOr<SharedMemory> shared = SharedMemory::Create("dunebox-shared", size);
  if (!shared.ok()) return shared.status();
  shared_ = std::make_shared<SharedMemory>(*std::move(shared));
  return absl::OkStatus();
}

absl::Status RemoteGuest::StartWorker() {
  if (absl::Status status = plugin::CheckOutputs(policy_); !status.ok()) return status;
  for (auto [from, to] : {std::pair(policy_.stdout_to, &stdout_), {policy_.stderr_to, &stderr_}}) {
    if (from >= 0) *to = FileDescriptor(fcntl(from, F_DUPFD_CLOEXEC, 3));
  }
  absl::StatusOr<std::shared_ptr<ForkServer>> server = ForkServer::Get();
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  absl::StatusOr<SharedMemory> control =
      SharedMemory::Create("dunebox-slots", counts_.all() * sizeof(Slot));
  if (!control.ok()) return control.status();
  control_.emplace(*std::move(control));
  doorbell_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  int ends[2];
  if (!doorbell_.valid() || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ResourceExhaustedError(absl::ErrnoToStatus(errno, "a worker's files").message());
  }
  files_ = FileDescriptor(ends[0]);
  const FileDescriptor workers_files(ends[1]);
  const int descriptors[kWorkerFds] = {control_->fd(), shared_->fd(), doorbell_.get(),
                                       workers_files.get()};
  absl::StatusOr<ForkServer::Child> child = server_->Start(Role::kWorker, descriptors);
  if (!child.ok()) return child.status();
  pid_ = child->pid;
  pidfd_ = std::move(child->pidfd);
  control_->CloseFile();
  is_served_.resize(counts_.plugin_threads);
  for (std::uint32_t index = 0; index < counts_.all(); ++index) {
    Line& line = lines_.emplace_back(*this, slot(index));
    if (index > 0 && index < counts_.first_of_worker()) free_lines_.push_back(&line);
  }
  const absl::StatusOr<std::uint64_t> ward =
      Keeper::Instance().Add(*this, pidfd_.get(), doorbell_.get());
  if (!ward.ok()) return ward.status();
  ward_ = *ward;
  return absl::OkStatus();
}

absl::Status RemoteGuest::GiveOrder(StartOrder order) {
  order.relays_stdout = stdout_.valid() ? 1 : 0;
  order.relays_stderr = stderr_.valid() ? 1 : 0;
  const absl::StatusOr<std::string> started =
      Ask(lines_.front(), Operation::kStart, Serialize(order), policy_.load_deadline);
  if (!started.ok()) return started.status();
  Reader reader(*started);
  shared_start_ = reader.Get<std::uint64_t>();
  confinement_ = GetTexts(reader);
  engine_ = reader.GetText();
  isolation_ = reader.GetText();
  if (!reader.is_complete() || !IsPageAligned(shared_start_) || shared_start_ < kWindowStart ||
      shared_start_ > kWindowEnd - order.arena_size) {
    return Break(Breach());
  }
  if (arena_ == nullptr) arena_ = std::make_shared<plugin::Arena>(shared_, OffsetOf(shared_start_));
  return absl::OkStatus();
}

bool RemoteGuest::IsCalledByThisThread() const { return Held::Of(*this) != nullptr; }

RemoteGuest::~RemoteGuest() {
  if (ward_ != 0) Keeper::Instance().Remove(ward_);
  EndNow();
  for (const pthread_t thread : plugin_threads_) pthread_join(thread, nullptr);
}

void RemoteGuest::EndNow() {
  (void)EndProcess();
  has_ended_ = true;
  if (control_) WakeAll();
}

std::optional<int> RemoteGuest::EndProcess() {
  const std::lock_guard lock(process_mutex_);
  if (pid_ == 0) return std::nullopt;
  return server_->End(std::exchange(pid_, 0));
}

void RemoteGuest::WakeAll() {
  for (std::uint32_t index = 0; index < counts_.all(); ++index) {
    Channel::Interrupt(slot(index).to_host);
  }
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void RemoteGuest::OnDeath() {
  // What it says of itself comes first, so this one is not noted where the host has ended it.
  const std::optional<int> status = EndProcess();
  Note(ToStatus(FailureFor(status)));
  has_ended_ = true;
  WakeAll();
}

void RemoteGuest::Note(const absl::Status& status) {
  std::optional<Failure> failure = FailureOf(status);
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = std::move(failure);
}

// Who is told of a failure may ask at once, while another thread still waits for the process to end.
bool RemoteGuest::IsOver() const {
  const std::lock_guard lock(mutex_);
  return has_ended_ || failure_.has_value();
}

absl::Status RemoteGuest::EndedStatus() const {
  const std::lock_guard lock(mutex_);
  return failure_ ? ToStatus(*failure_) : Breach();
}

absl::Status RemoteGuest::Break(const absl::Status& why) {
  Note(why);
  EndNow();
  return EndedStatus();
}

bool RemoteGuest::MayCallBack(Operation operation) {
  return operation == Operation::kCall || operation == Operation::kLoad || operation == Operation::kFind;
}

// ---- conversations ------------------------------------------------------------------------------

absl::StatusOr<std::string> RemoteGuest::Answer(const Message& message) {
  Reader reader(message.bytes);
  const std::optional<absl::Status> status = GetStatus(reader);
  if (!status) return Break(Breach());
  Note(*status);
  if (!status->ok()) return *status;
  return std::string(reader.rest());
}

absl::StatusOr<std::string> RemoteGuest::Ask(Line& line, Operation operation,
                                             std::string_view bytes, absl::Duration time) {
  if (bytes.size() > kMostPayload) {
    return absl::ResourceExhaustedError("more text than a sandbox in another process takes");
  }
  const std::uint64_t outer_deadline = line.deadline;
  line.deadline = std::min(outer_deadline, DeadlineIn(time));
  std::uint64_t limit = LimitFor(line.deadline);
  bool is_extended = false;
  line.channel.Send(operation, bytes);
  absl::StatusOr<std::string> result = absl::InternalError("not asked");
  for (;;) {
    Message message;
    const Channel::Outcome outcome = line.channel.Receive(message, limit, has_ended_);
    if (outcome == Channel::Outcome::kEnded) {
      result = EndedStatus();
      break;
    }
    const bool is_callback = message.operation == static_cast<std::uint32_t>(Operation::kCallback);
    const bool is_output = message.operation == static_cast<std::uint32_t>(Operation::kOutput);
    // Callbacks are not interrupted; but none begins when it is too late, and nothing is written then.
    if (outcome == Channel::Outcome::kTimedOut || ((is_callback || is_output) && Now() > limit)) {
      result = Break(ToStatus({.kind = Failure::Kind::kTimeout}));
      break;
    }
    if (is_callback && MayCallBack(operation) && RunCallback(line, message)) {
      if (limit != kNever && Now() > line.deadline && !std::exchange(is_extended, true)) {
        limit = Now() + kGrace;
      }
      continue;
    }
    if (is_output && RunOutput(line, message)) continue;
    const bool is_done = message.operation == static_cast<std::uint32_t>(Operation::kDone);
    result = is_done ? Answer(message) : Break(Breach());
    break;
  }
  line.deadline = outer_deadline;
  return result;
}

bool RemoteGuest::RunCallback(Line& line, const Message& message) {
  Reader reader(message.bytes);
  const auto number = reader.Get<std::uint32_t>();
  CallbackFrame frame = GetCallbackFrame(reader);
  if (!reader.is_complete()) return false;
  std::shared_ptr<const Callback> callback;
  {
    const std::lock_guard lock(mutex_);
    if (number < callbacks_.size()) callback = callbacks_[number];
  }
  if (callback == nullptr) return false;
  plugin::RunCallback(*callback, frame);
  Writer writer;
  writer.Put(frame.result);
  const std::span<const std::byte> large = frame.large_result;
  writer.PutText({reinterpret_cast<const char*>(large.data()), large.size()});
  line.channel.Send(Operation::kCallbackDone, writer.bytes());
  return true;
}

bool RemoteGuest::RunOutput(Line& line, const Message& message) {
  Reader reader(message.bytes);
  const FileDescriptor& to = reader.Get<std::uint32_t>() != 0 ? stderr_ : stdout_;
  const std::string text = reader.GetText();
  if (!reader.is_complete() || !to.valid()) return false;
  Writer writer;
  writer.Put(WriteOut(line, to.get(), text));
  line.channel.Send(Operation::kOutputDone, writer.bytes());
  return true;
}

// A piece of a pipe's whole pages is written at once where there is room for it, so nobody waits for ever.
std::int64_t RemoteGuest::WriteOut(const Line& line, int fd, std::string_view text) const {
  constexpr int kLook = 50;  // milliseconds, after which the deadline is looked at
  // The worker's clock for the call has begun a little later: it is to find that the time is up, too.
  constexpr std::uint64_t kLater = 50'000'000;
  const auto has_time = [&] { return Now() < line.deadline || Now() - line.deadline < kLater; };
  const bool waits = (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
  const plugin::WithoutPipeSignal guard;
  std::size_t done = 0;
  while (done < text.size()) {
    pollfd entry{.fd = fd, .events = POLLOUT, .revents = 0};
    if (waits && poll(&entry, 1, kLook) <= 0) {
      if (has_time() && !has_ended_) continue;
      return done != 0 ? static_cast<std::int64_t>(done) : -EINTR;
    }
    const ssize_t written = write(fd, text.data() + done, std::min<std::size_t>(text.size() - done, PIPE_BUF));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return done != 0 ? static_cast<std::int64_t>(done) : -errno;
    done += static_cast<std::size_t>(written);
  }
  return static_cast<std::int64_t>(done);
}

RemoteGuest::Line* RemoteGuest::TakeLine() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return has_ended_ || !free_lines_.empty(); });
  if (has_ended_) return nullptr;
  Line* const line = free_lines_.back();
  free_lines_.pop_back();
  return line;
}

void RemoteGuest::GiveBack(Line& line) {
  const std::lock_guard lock(mutex_);
  free_lines_.push_back(&line);
  changed_.notify_one();
}

absl::StatusOr<std::string> RemoteGuest::AskOnLine(Operation operation, std::string_view bytes,
                                                   absl::Duration time) {
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  if (IsOver()) return EndedStatus();
  if (Line* const line = Held::Of(*this)) {
    if (line->depth >= policy_.nesting) {
      return absl::ResourceExhaustedError("calls and callbacks are nested too deep");
    }
    ++line->depth;
    ++calls_begun_;
    absl::StatusOr<std::string> answer = Ask(*line, operation, bytes, time);
    ++calls_ended_;
    --line->depth;
    return answer;
  }
  Line* const line = TakeLine();
  if (line == nullptr) return EndedStatus();
  absl::StatusOr<std::string> answer = absl::InternalError("not asked");
  {
    const Held held(*line);
    ++calls_begun_;
    answer = Ask(*line, operation, bytes, time);
    ++calls_ended_;
  }
  GiveBack(*line);
  return answer;
}

absl::StatusOr<std::string> RemoteGuest::AskManager(Operation operation,
                                                    std::string_view bytes) const {
  absl::Duration patience = kManagerTime;
  return AskManager(operation, bytes, patience);
}

absl::StatusOr<std::string> RemoteGuest::AskManager(Operation operation, std::string_view bytes,
                                                    absl::Duration& patience) const {
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  // Asking changes nothing that a caller could see, but that the worker has failed.
  auto& self = const_cast<RemoteGuest&>(*this);
  const std::lock_guard lock(manager_mutex_);
  if (has_ended_) return EndedStatus();
  if (patience <= absl::ZeroDuration()) return self.Break(ToStatus({.kind = Failure::Kind::kTimeout}));
  const std::uint64_t before = Now();
  absl::StatusOr<std::string> answer = self.Ask(self.lines_.front(), operation, bytes, patience);
  patience -= absl::Nanoseconds(Now() - before);
  return answer;
}

// ---- threads that the plugin has started --------------------------------------------------------

bool RemoteGuest::OnDoorbell() {
  std::unique_lock lock(mutex_);
  bool is_new = false, is_all = true;
  for (std::uint32_t index = 0; index < counts_.plugin_threads; ++index) {
    Line& line = lines_[counts_.first_of_worker() + index];
    if (!is_served_[index] && line.channel.HasMessage()) {
      const std::optional<pthread_t> thread =
          plugin::StartHostThread([this, &line] { ServePluginThread(line); });
      if (!thread) {
        lock.unlock();
        (void)Break(Breach());  // nobody would ever answer it
        return false;
      }
      is_served_[index] = is_new = true;
      plugin_threads_.push_back(*thread);
    }
    is_all = is_all && is_served_[index];
  }
  // Each slot is rung for once. Two may be found at one ring; more than that is noise.
  if (!is_new) ++idle_rings_;
  return !is_all && idle_rings_ <= counts_.plugin_threads;
}

// In one process the plugin's thread would use it itself. A worker that is hostile has no honest clock of its own.
bool RemoteGuest::HasIdleTime(IdleBudget& budget) const {
  const std::uint64_t begun = calls_begun_, used = TimeOfThisThread();
  if (begun == budget.calls && begun == calls_ended_) return used < budget.limit;
  const absl::Duration idle = policy_.idle_cpu_budget;
  budget = {.calls = begun,
            .limit = idle == absl::InfiniteDuration()
                         ? kNever
                         : used + static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(idle))};
  return true;
}

void RemoteGuest::ServePluginThread(Line& line) {
  // The application's signals do not come here; its own faults are its own.
  const std::uint64_t mask = ~signals::kSynchronous;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof(mask));
  const Held held(line);
  IdleBudget budget;
  for (;;) {
    Message message;
    if (line.channel.Receive(message, kNever, has_ended_) != Channel::Outcome::kMessage) return;
    if (!HasIdleTime(budget)) {
      (void)Break(ToStatus({.kind = Failure::Kind::kCpuBudget}));
      return;
    }
    const bool is_callback = message.operation == static_cast<std::uint32_t>(Operation::kCallback);
    if (is_callback && RunCallback(line, message)) continue;
    const bool is_output = message.operation == static_cast<std::uint32_t>(Operation::kOutput);
    if (is_output && RunOutput(line, message)) continue;
    (void)Break(Breach());
    return;
  }
}

// ---- what the host asks for ---------------------------------------------------------------------

// Opened here, with the application's rights, because the host has named it. [as Instance::Load]
std::uint32_t RemoteGuest::SendFile(const std::string& path, std::string& name) {
  const std::optional<plugin::NamedFile> opened = plugin::OpenForHost(path);
  if (!opened) return 0;
  name = opened->name;
  return SendFile(opened->file.get());
}

std::uint32_t RemoteGuest::SendFile(int fd) {
  std::uint32_t number;
  {
    const std::lock_guard lock(mutex_);
    number = next_file_++;
  }
  return SendWithDescriptors(files_.get(), number, std::span(&fd, 1), MSG_DONTWAIT) ? number : 0;
}

absl::Status RemoteGuest::Load(const std::string& path) {
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  std::string name;
  const std::uint32_t number = SendFile(path, name);
  Writer writer;
  writer.Put(number);
  writer.PutText(path);
  writer.PutText(name);
  absl::Status loaded =
      AskOnLine(Operation::kLoad, writer.bytes(), policy_.load_deadline).status();
  if (loaded.ok() && number != 0) {
    const std::lock_guard lock(mutex_);
    named_.push_back(path);
  }
  return loaded;
}

absl::StatusOr<std::uint64_t> RemoteGuest::FindSymbol(const std::string& name) {
  Writer writer;
  writer.PutText(name);
  const absl::StatusOr<std::string> answer =
      AskOnLine(Operation::kFind, writer.bytes(), policy_.load_deadline);
  if (!answer.ok()) return answer.status();
  return Reader(*answer).Get<std::uint64_t>();
}

absl::StatusOr<CallResult> RemoteGuest::Call(std::uint64_t function, const CallFrame& frame) {
  Writer writer;
  writer.Put(function);
  PutFrame(writer, frame);
  const absl::StatusOr<std::string> answer =
      AskOnLine(Operation::kCall, writer.bytes(), policy_.deadline);
  if (!answer.ok()) return answer.status();
  return Reader(*answer).Get<CallResult>();
}

absl::StatusOr<std::uint64_t> RemoteGuest::AddCallback(std::shared_ptr<const Callback> callback) {
  const std::lock_guard adding(adding_mutex_);
  Writer writer;
  writer.Put(static_cast<std::uint32_t>(callback->uses_vectors));
  writer.Put(static_cast<std::uint32_t>(callback->stack_words));
  writer.Put(static_cast<std::uint32_t>(callback->has_large_result));
  {
    const std::lock_guard lock(mutex_);
    writer.Put(static_cast<std::uint32_t>(callbacks_.size()));
    callbacks_.push_back(std::move(callback));
  }
  const absl::StatusOr<std::string> answer = AskManager(Operation::kAddCallback, writer.bytes());
  if (answer.ok()) return Reader(*answer).Get<std::uint64_t>();
  const std::lock_guard lock(mutex_);
  callbacks_.pop_back();
  return answer.status();
}

absl::StatusOr<internal::Block> RemoteGuest::Allocate(std::size_t size) {
  const auto all_of_it = [this](std::uint64_t bytes) -> absl::StatusOr<GuestRange> {
    if (bytes > shared_->bytes().size() || is_shared_given_->exchange(true)) {
      return absl::ResourceExhaustedError("no room in the sandbox's memory");
    }
    return GuestRange{GuestVirt{shared_start_}, GuestVirt{shared_start_ + shared_->bytes().size()}};
  };
  const absl::StatusOr<std::uint64_t> address = arena_->Allocate(size, all_of_it);
  if (!address.ok()) return address.status();
  return internal::Block(arena_, *address, size);
}

std::byte* RemoteGuest::SharedAt(std::uint64_t address, std::uint64_t size) const {
  const std::uint64_t offset = address - shared_start_, all = shared_->bytes().size();
  if (address < shared_start_ || offset > all || size > all - offset) return nullptr;
  return shared_->bytes().data() + offset;
}

// As many bytes as there are, at most what fits into a message. Nothing: the worker has failed.
std::optional<std::string> RemoteGuest::ReadSome(std::uint64_t from, std::uint64_t size,
                                                 absl::Duration& patience) const {
  Writer writer;
  writer.Put(from);
  writer.Put(std::min<std::uint64_t>(size, kMostPayload / 2));
  absl::StatusOr<std::string> answer = AskManager(Operation::kRead, writer.bytes(), patience);
  if (!answer.ok() || answer->size() > size) return std::nullopt;
  return *std::move(answer);
}

bool RemoteGuest::Read(std::uint64_t from, std::span<std::byte> to) const {
  if (const std::byte* const shared = SharedAt(from, to.size())) {
    std::copy_n(shared, to.size(), to.data());
    return true;
  }
  if (from >= kWindowEnd || to.size() > kWindowEnd - from) return false;
  absl::Duration patience = PatienceFor(kManagerTime, to.size());
  while (!to.empty()) {
    const std::optional<std::string> part = ReadSome(from, to.size(), patience);
    if (!part || part->empty()) return false;
    std::memcpy(to.data(), part->data(), part->size());
    to = to.subspan(part->size());
    from += part->size();
  }
  return true;
}

bool RemoteGuest::Write(std::uint64_t to, std::span<const std::byte> from) {
  if (std::byte* const shared = SharedAt(to, from.size())) {
    std::ranges::copy(from, shared);
    return true;
  }
  if (to >= kWindowEnd || from.size() > kWindowEnd - to) return false;
  absl::Duration patience = PatienceFor(kManagerTime, from.size());
  while (!from.empty()) {
    const auto part = from.first(std::min(from.size(), kMostPayload / 2));
    Writer writer;
    writer.Put(to);
    writer.PutText({reinterpret_cast<const char*>(part.data()), part.size()});
    if (!AskManager(Operation::kWrite, writer.bytes(), patience).ok()) return false;
    from = from.subspan(part.size());
    to += part.size();
  }
  return true;
}

absl::StatusOr<std::string> RemoteGuest::ReadString(std::uint64_t from, std::size_t most) const {
  constexpr std::uint64_t kFirst = 256;
  most = std::min(most, kWindowEnd);
  absl::Duration patience = PatienceFor(kManagerTime, most);
  std::string text;
  for (std::uint64_t piece = kFirst;; piece = kMostPayload / 2) {
    const std::uint64_t left = most + 1 - text.size();
    const std::optional<std::string> part =
        from < kWindowEnd ? ReadSome(from, std::min<std::uint64_t>(left, piece), patience) : std::nullopt;
    if (!part || part->empty()) {
      return absl::OutOfRangeError("the plugin points to what is not its memory");
    }
    const std::size_t end = part->find('\0');
    text.append(*part, 0, end);
    if (end != std::string::npos) return text;
    if (text.size() > most) {
      return absl::OutOfRangeError("a string of the plugin's is longer than the host accepts");
    }
    from += part->size();
  }
}

std::optional<Failure> RemoteGuest::failure() const {
  const auto known = [this] {
    const std::lock_guard lock(mutex_);
    return failure_;
  };
  if (std::optional<Failure> failure = known()) return failure;
  // A thread of the plugin's own may have ended it.
  (void)AskManager(Operation::kFailure, {});
  return known();
}

std::string RemoteGuest::FetchText(std::uint32_t which, std::uint64_t most) const {
  std::string text;
  absl::Duration patience = PatienceFor(kManagerTime, most);
  while (text.size() < most) {
    Writer writer;
    writer.Put(which);
    writer.Put(static_cast<std::uint64_t>(text.size()));
    const absl::StatusOr<std::string> part = AskManager(Operation::kText, writer.bytes(), patience);
    if (!part.ok() || part->empty()) break;
    text += *part;
  }
  if (text.size() > most) text.resize(most);
  return text;
}

std::string RemoteGuest::TakeOutput() { return FetchText(kTextOutput, policy_.captured_output); }

std::vector<std::string> RemoteGuest::Denials() const {
  std::vector<std::string> denials =
      absl::StrSplit(FetchText(kTextDenials, kMostDenials), '\0', absl::SkipEmpty());
  for (std::string& denial : denials) denial = plugin::ShownLine(std::move(denial));
  return denials;
}

}  // namespace dunebox::worker
