// The fork server's side of fork_server.h: one thread, which does what the host asks for and
// nothing by itself.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "runtime/confinement/identity.h"
#include "sandbox/worker/broker.h"
#include "sandbox/worker/descriptors.h"
#include "sandbox/worker/fork_server.h"

namespace dunebox::worker {
namespace {

using runtime::FileDescriptor;

constexpr int kOthers = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
// The first that this machine lets us have.
constexpr int kNamespaceSets[] = {CLONE_NEWUSER | kOthers,
                                  CLONE_NEWUSER | (kOthers & ~CLONE_NEWNET), kOthers, 0};

constexpr rlim_t kMostStack = rlim_t{8} << 20;

constexpr int kFirstFd = 3;
struct RoleRow {
  std::size_t descriptors;  // that come along
  // With what is executed in front of them. What has nothing is a fork of this process, as which it starts much sooner:
  // it runs nobody's code but ours.
  bool has_program;
};
constexpr RoleRow kRoles[] = {{1 + kWorkerFds + 1, true}, {kBrokerFds, false}};  // as Role has them
static_assert(kWorkerImageFd == kFirstFd + kWorkerFds);

void LimitStack() {
  rlimit limit{};
  getrlimit(RLIMIT_STACK, &limit);
  limit.rlim_cur = std::min(limit.rlim_cur, kMostStack);
  setrlimit(RLIMIT_STACK, &limit);
}

// From `above` on, out of the way of what they are to become.
std::vector<int> CopiesOf(std::span<const FileDescriptor> descriptors, int above) {
  std::vector<int> copies;
  copies.reserve(descriptors.size());
  for (const FileDescriptor& fd : descriptors) {
    copies.push_back(fcntl(fd.get(), F_DUPFD_CLOEXEC, above));
  }
  return copies;
}

// In the child. Returns where something is wrong.
void Become(Role role, std::span<const FileDescriptor> descriptors, int namespaces,
            const confinement::UserAndGroup& outside, int parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return;
  // The parent may have died before.
  pollfd entry{.fd = parent, .events = POLLIN, .revents = 0};
  if (poll(&entry, 1, 0) != 0) return;
  if ((namespaces & CLONE_NEWUSER) != 0 && !confinement::MapCaller(outside, outside).ok()) {
    errno = EPERM;
    return;
  }
  LimitStack();
  // Ours lie where theirs are to be, and are not needed any more.
  const bool has_program = kRoles[static_cast<std::size_t>(role)].has_program;
  const int first_free = kFirstFd + static_cast<int>(descriptors.size()) - (has_program ? 1 : 0);
  const std::vector<int> copies = CopiesOf(descriptors, first_free);
  int to = kFirstFd;
  for (const int fd : std::span(copies).subspan(has_program ? 1 : 0)) {
    if (dup2(fd, to++) < 0) return;
  }
  if (syscall(SYS_close_range, first_free, ~0U, has_program ? CLOSE_RANGE_CLOEXEC : 0) != 0) return;
  if (!has_program) {
    prctl(PR_SET_NAME, "dunebox-broker");
    _exit(BrokerMain(namespaces));
  }
  const std::string flags = std::to_string(namespaces);
  const std::string image = std::to_string(kWorkerImageFd);
  const char* const arguments[] = {"dunebox-worker", flags.c_str(), image.c_str(), nullptr};
  syscall(SYS_execveat, copies.front(), "", arguments, arguments + 3, AT_EMPTY_PATH);
}

struct Started {
  int error = 0;
  pid_t pid = 0;
  FileDescriptor pidfd;
};

Started StartWith(Role role, const std::vector<FileDescriptor>& descriptors, int namespaces,
                  int self) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {.error = errno};
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  const confinement::UserAndGroup outside = confinement::UserAndGroup::Current();
  int pidfd = -1;
  const auto pid =
      static_cast<pid_t>(syscall(SYS_clone, namespaces | CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0));
  if (pid < 0) return {.error = errno};
  if (pid == 0) {
    Become(role, descriptors, namespaces, outside, self);
    const int error = errno;
    [[maybe_unused]] const ssize_t written = write(write_end.get(), &error, sizeof(error));
    _exit(1);
  }
  Started started{.pid = pid, .pidfd = FileDescriptor(pidfd)};
  write_end = FileDescriptor();
  // Nothing: it has become what it is to be.
  ssize_t size;
  do {
    size = read(read_end.get(), &started.error, sizeof(started.error));
  } while (size < 0 && errno == EINTR);
  if (size == 0) return started;
  waitpid(pid, nullptr, 0);
  return {.error = started.error != 0 ? started.error : EAGAIN};
}

void Start(Role role, const std::vector<FileDescriptor>& descriptors, int self) {
  Started started{.error = EINVAL};
  const auto index = static_cast<std::size_t>(role);
  if (index < std::size(kRoles) && descriptors.size() == kRoles[index].descriptors) {
    for (const int namespaces : kNamespaceSets) {
      started = StartWith(role, descriptors, namespaces, self);
      if (started.error == 0) break;
    }
  }
  const ForkReply reply{.error = started.error, .pid = started.pid};
  const int pidfd = started.pidfd.get();
  const std::span<const int> along(&pidfd, started.error == 0 ? 1 : 0);
  SendWithDescriptors(kRequestFd, reply, along);
}

void End(pid_t pid) {
  siginfo_t info{};
  ForkReply reply;
  // Only children: nobody else can have the number, since they are waited for here alone.
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | WNOHANG) != 0) {
    reply.error = errno;
  } else {
    kill(pid, SIGKILL);
    while (waitpid(pid, &reply.status, 0) < 0 && errno == EINTR) {
    }
  }
  SendWithDescriptors(kRequestFd, reply, {});
}

}  // namespace

int ForkServerMain() {
  const FileDescriptor self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!self.valid()) return 1;
  for (;;) {
    pollfd entries[] = {{.fd = kRequestFd, .events = POLLIN, .revents = 0},
                        {.fd = kHostFd, .events = POLLIN, .revents = 0}};
    if (poll(entries, std::size(entries), -1) < 0) continue;
    if (entries[1].revents != 0) return 0;
    ForkRequest request;
    std::vector<FileDescriptor> descriptors;
    if (!ReceiveWithDescriptors(kRequestFd, request, descriptors)) return 0;
    if (request.ended_pid == 0) {
      Start(request.role, descriptors, self.get());
    } else {
      End(request.ended_pid);
    }
  }
}

}  // namespace dunebox::worker
