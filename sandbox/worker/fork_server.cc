#include "sandbox/worker/fork_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sandbox/worker/channel.h"
#include "sandbox/worker/descriptors.h"
#include "sandbox/worker/program.h"

namespace dunebox::worker {
namespace {

using runtime::FileDescriptor;

constexpr std::size_t kStack = std::size_t{64} << 10;
constexpr int kAboveOurs = 64;
constexpr std::uint64_t kMostWait = 20'000'000'000;  // nanoseconds, for an answer

// What the two children share with the caller, who waits for them.
struct LaunchState {
  int null;
  std::array<int, 4> descriptors;  // kRequestFd and so on
  std::byte* second_stack;
  const char* const* arguments;
  const char* const* environment;
  int error = 0;
};

// The memory is the host's: system calls, and nothing else.
int Fail(LaunchState& state) {
  state.error = errno;
  return 1;
}

int Become(void* raw) {
  auto& state = *static_cast<LaunchState*>(raw);
  // Away from the numbers they are to have.
  state.null = fcntl(state.null, F_DUPFD, kAboveOurs);
  for (int& fd : state.descriptors) {
    if ((fd = fcntl(fd, F_DUPFD, kAboveOurs)) < 0) return Fail(state);
  }
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    if (dup2(state.null, fd) < 0) return Fail(state);
  }
  int to = kRequestFd;
  for (const int fd : state.descriptors) {
    if (dup2(fd, to++) < 0) return Fail(state);
  }
  // Not of the terminal's group: its Ctrl-C is for the host to answer. No session of its own,
  // because the kernel may share out the processors by sessions, and calls go to and fro.
  if (syscall(SYS_close_range, to, ~0U, 0) != 0 || setpgid(0, 0) != 0 || chdir("/") != 0) {
    return Fail(state);
  }
  syscall(SYS_execveat, kProgramFd, "", state.arguments, state.environment, AT_EMPTY_PATH);
  return Fail(state);
}

int MakeOrphan(void* raw) {
  auto& state = *static_cast<LaunchState*>(raw);
  // SIGCHLD is for whoever adopts it.
  if (clone(Become, state.second_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, raw) < 0) {
    return Fail(state);
  }
  return 0;
}

// No handler of the host's may run in a child that has its memory.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    const std::uint64_t all = ~std::uint64_t{0};
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before_, sizeof(before_));
  }
  ~AllSignalsBlocked() {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr, sizeof(before_));
  }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  std::uint64_t before_ = 0;
};

// 0 or an errno.
int StartOrphan(LaunchState& state) {
  void* const stacks = mmap(nullptr, 2 * kStack, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stacks == MAP_FAILED) return errno;
  std::byte* const first_stack = static_cast<std::byte*>(stacks) + kStack;
  state.second_stack = first_stack + kStack;
  pid_t child;
  {
    const AllSignalsBlocked blocked;
    // Without a signal at its end.
    child = clone(MakeOrphan, first_stack, CLONE_VM | CLONE_VFORK, &state);
    if (child < 0) state.error = errno;
  }
  if (child > 0) {
    while (waitpid(child, nullptr, static_cast<int>(__WCLONE)) < 0 && errno == EINTR) {
    }
  }
  munmap(stacks, 2 * kStack);
  return state.error;
}

absl::Status Failed(int error, absl::string_view what) {
  return absl::UnavailableError(
      absl::ErrnoToStatus(error, absl::StrCat("no confined process: ", what)).message());
}

absl::Status NoAnswer() { return Failed(errno, "the fork server does not answer"); }

// Whose rights a fork server has.
struct Owner {
  uid_t user = geteuid();
  gid_t group = getegid();
  std::vector<gid_t> groups;
  dev_t root_device = 0;
  ino_t root = 0;

  static Owner Current() {
    Owner owner;
    owner.groups.resize(static_cast<std::size_t>(std::max(getgroups(0, nullptr), 0)));
    const int count = getgroups(static_cast<int>(owner.groups.size()), owner.groups.data());
    owner.groups.resize(static_cast<std::size_t>(std::max(count, 0)));
    struct stat root {};
    if (stat("/", &root) == 0) {
      owner.root_device = root.st_dev;
      owner.root = root.st_ino;
    }
    return owner;
  }
  bool operator==(const Owner&) const = default;
};

}  // namespace

absl::StatusOr<std::shared_ptr<ForkServer>> ForkServer::Launch() {
  const absl::StatusOr<Executable> program = ExecutableOf(Program::kBroker);
  if (!program.ok()) return program.status();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return Failed(errno, "socketpair");
  }
  FileDescriptor ours(ends[0]);
  const FileDescriptor theirs(ends[1]);
  const FileDescriptor host(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!host.valid()) return Failed(errno, "pidfd_open");
  const FileDescriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return Failed(errno, "/dev/null");
  const std::string image = std::to_string(kImageFd);
  const char* const arguments[] = {"dunebox-broker", image.c_str(), nullptr};
  LaunchState state{.null = null.get(),
                    .descriptors = {theirs.get(), host.get(), program->loader, program->image},
                    .second_stack = nullptr,
                    .arguments = arguments,
                    .environment = arguments + 2};
  if (const int error = StartOrphan(state); error != 0) return Failed(error, "cannot start it");
  return std::shared_ptr<ForkServer>(new ForkServer(std::move(ours)));
}

// What can be read may be an answer that another thread is about to read.
bool ForkServer::IsAlive() const {
  pollfd entry{.fd = socket_.get(), .events = 0, .revents = 0};
  return poll(&entry, 1, 0) == 0;
}

absl::StatusOr<std::shared_ptr<ForkServer>> ForkServer::Get() {
  struct Current {
    std::mutex mutex;
    std::shared_ptr<ForkServer> server;
    Owner owner;
  };
  // Never destroyed: sandboxes may end while the process's statics do.
  static Current& current = *new Current;
  const std::lock_guard lock(current.mutex);
  Owner owner = Owner::Current();
  if (current.server != nullptr && current.owner == owner && current.server->IsAlive()) return current.server;
  absl::StatusOr<std::shared_ptr<ForkServer>> launched = Launch();
  if (launched.ok()) {
    current.server = *launched;
    current.owner = std::move(owner);
  }
  return launched;
}

absl::StatusOr<std::shared_ptr<ForkServer::Begun>> ForkServer::Begin(Role role, std::span<const int> descriptors) {
  std::vector<int> all(descriptors.begin(), descriptors.end());
  if (role == Role::kWorker) {
    const absl::StatusOr<Executable> program = ExecutableOf(Program::kWorker);
    if (!program.ok()) return program.status();
    all.insert(all.begin(), program->loader);
    all.push_back(program->image);
  }
  const std::lock_guard lock(mutex_);
  if (!Ask(ForkRequest{.role = role}, all)) return NoAnswer();
  owed_ = std::make_shared<Begun>();
  return owed_;
}

absl::StatusOr<ForkServer::Child> ForkServer::Finish(Begun& begun) {
  const std::lock_guard lock(mutex_);
  if (owed_.get() == &begun) TakeOwed();
  return std::move(begun.child_);
}

absl::StatusOr<ForkServer::Child> ForkServer::Start(Role role, std::span<const int> descriptors) {
  const absl::StatusOr<std::shared_ptr<Begun>> begun = Begin(role, descriptors);
  return begun.ok() ? Finish(**begun) : begun.status();
}

bool ForkServer::Ask(const ForkRequest& request, std::span<const int> descriptors) {
  TakeOwed();
  return SendWithDescriptors(socket_.get(), request, descriptors);
}

// Who keeps silent so long is not asked again: his answer would be taken for the next one's.
bool ForkServer::Receive(ForkReply& reply, std::vector<FileDescriptor>& came) {
  if (WaitForBytes(socket_.get(), Now() + kMostWait)) return ReceiveWithDescriptors(socket_.get(), reply, came);
  const int error = errno;
  shutdown(socket_.get(), SHUT_RDWR);
  errno = error;
  return false;
}

void ForkServer::TakeOwed() {
  if (owed_ == nullptr) return;
  const std::shared_ptr<Begun> begun = std::exchange(owed_, nullptr);
  ForkReply reply;
  std::vector<FileDescriptor> came;
  if (!Receive(reply, came)) {
    begun->child_ = NoAnswer();
  } else if (reply.error != 0 || came.size() != 1) {
    begun->child_ = Failed(reply.error, "cannot start a worker");
  } else {
    begun->child_ = Child{.pid = reply.pid, .pidfd = std::move(came.front())};
  }
}

std::optional<int> ForkServer::End(pid_t pid) {
  const std::lock_guard lock(mutex_);
  ForkReply reply;
  std::vector<FileDescriptor> came;
  if (!Ask(ForkRequest{.ended_pid = pid}, {}) || !Receive(reply, came) || reply.error != 0) return std::nullopt;
  return reply.status;
}

}  // namespace dunebox::worker
