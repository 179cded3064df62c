#include "runtime/confinement/first_process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "runtime/confinement/identity.h"
#include "runtime/confinement/mount_view.h"
#include "runtime/confinement/network_namespace.h"

namespace dunebox::confinement {
namespace {

using runtime::FileDescriptor;

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;

  static absl::StatusOr<Pipe> Create() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
    return Pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
  }
};

// What the first process tells: this, and behind it the message of an error. Smaller than a pipe.
struct Report {
  absl::StatusCode code = absl::StatusCode::kOk;
  errors::Id id = errors::Id::kNoNamespaces;
  MechanismSet had;
  std::uint64_t root_mount = 0;
};

// The identity of what is mounted at "/", for comparison within one mount namespace.
std::uint64_t RootMount() {
  struct statx info {};
  return statx(AT_FDCWD, "/", 0, STATX_MNT_ID, &info) == 0 ? info.stx_mnt_id : 0;
}

void Tell(int fd, const Report& report, absl::string_view message) {
  std::string bytes(reinterpret_cast<const char*>(&report), sizeof(report));
  absl::StrAppend(&bytes, message.substr(0, PIPE_BUF - sizeof(report)));
  if (write(fd, bytes.data(), bytes.size()) < 0) _exit(1);  // whoever waits learns it from that
}

absl::StatusOr<Report> Listen(int fd) {
  std::string bytes(PIPE_BUF, '\0');
  const ssize_t size = read(fd, bytes.data(), bytes.size());
  Report report;
  if (size < ssize_t{sizeof(report)}) {
    return absl::InternalError("the first process of the pid namespace has died");
  }
  bytes.resize(static_cast<std::size_t>(size));
  bytes.copy(reinterpret_cast<char*>(&report), sizeof(report));
  if (report.code == absl::StatusCode::kOk) return report;
  return errors::Named(report.id, absl::Status(report.code, bytes.substr(sizeof(report))));
}

bool MayAdministrate() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  return syscall(SYS_capget, &header, data) == 0 &&
         (data[0].effective & (std::uint32_t{1} << CAP_SYS_ADMIN)) != 0;
}

bool DropCapabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3]{};
  return syscall(SYS_capset, &header, none) == 0;
}

struct Namespace {
  Mechanism mechanism;
  int flag;
};
// Those that the program joins. The mount namespace is the one that must be there.
constexpr Namespace kJoined[] = {
    {Mechanism::kMountNamespace, CLONE_NEWNS},
    {Mechanism::kNetworkNamespace, CLONE_NEWNET},
    {Mechanism::kIpcNamespace, CLONE_NEWIPC},
    {Mechanism::kUtsNamespace, CLONE_NEWUTS},
};

// The numbers of a new pid namespace: 1 is the first process's, and 2 is to be the program's, whatever threads were there
// in between. [proc_sys_kernel(5), ns_last_pid]
class Numbers {
 public:
  Numbers() : last_(open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC)) {}
  bool can_rewind() const { return last_.valid(); }
  // Where the kernel refuses it, the program's number is another.
  void Rewind() const { [[maybe_unused]] const ssize_t written = write(last_.get(), "1", 1); }

 private:
  FileDescriptor last_;
};

// In the first process. `had` has user and pid namespace already.
absl::Status PutTogether(const Plan& plan, const UserAndGroup& caller, MechanismSet& had) {
  if (had.Has(Mechanism::kUserNamespace)) {
    // As root of the namespace: some file systems can be mounted by nobody else.
    if (absl::Status status = MapCaller(caller, {.uid = 0, .gid = 0}); !status.ok()) return status;
  }
  const Numbers numbers;
  const bool has_numbers = had.Has(Mechanism::kPidNamespace);
  std::optional<OwnNetwork> network;
  if (plan.own_network) network.emplace(numbers.can_rewind() || !has_numbers);
  for (const Namespace& row : kJoined) {
    if (row.mechanism == Mechanism::kNetworkNamespace) continue;
    if (unshare(row.flag) == 0) {
      had.Add(row.mechanism);
    } else if (row.mechanism == Mechanism::kMountNamespace) {
      return absl::ErrnoToStatus(errno, "cannot make a mount namespace");
    }
  }
  const std::string& name = plan.identity.hostname;
  if (had.Has(Mechanism::kUtsNamespace) && !name.empty() &&
      sethostname(name.data(), name.size()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot take the host name ", name));
  }
  const ProcSource processes = has_numbers ? ProcSource::kOwnNamespace : ProcSource::kHost;
  if (absl::Status status = BuildMountView(plan.mounts, processes); !status.ok()) {
    return errors::Named(errors::Id::kNoView, status);
  }
  if (!network) return absl::OkStatus();
  const absl::StatusOr<bool> entered = network->Enter();
  if (entered.value_or(false)) had.Add(Mechanism::kNetworkNamespace);
  if (has_numbers && network->had_thread()) numbers.Rewind();
  return entered.status();
}

[[noreturn]] void BuryOrphans() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  for (;;) {
    if (waitpid(-1, nullptr, __WALL) < 0 && errno == ECHILD) sigwaitinfo(&child, nullptr);
  }
}

// What the program could find in /proc/1 or inherit from it. Where that cannot be, the session ends with its first process.
void GiveUpEverything() {
  if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      !DropCapabilities() || close_range(0, UINT_MAX, 0) != 0) {
    errors::Say(errors::Id::kNoNamespaces,
                absl::ErrnoToStatus(errno, "the first process cannot give up what it has"));
    _exit(1);
  }
}

[[noreturn]] void BecomeFirst(const Plan& plan, const UserAndGroup& caller, MechanismSet had,
                              Pipe report, Pipe joined) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  joined.write_end = FileDescriptor();
  const absl::Status status = PutTogether(plan, caller, had);
  Tell(report.write_end.get(),
       {.code = status.code(),
        .id = errors::NameOf(status, errors::Id::kNoNamespaces),
        .had = had,
        .root_mount = RootMount()},
       status.message());
  // No byte: the guardian or the program is dead, perhaps from before prctl.
  char byte = 0;
  if (!status.ok() || read(joined.read_end.get(), &byte, 1) != 1) _exit(1);
  if (!had.Has(Mechanism::kPidNamespace)) _exit(0);
  GiveUpEverything();
  BuryOrphans();
}

// As fork(2), with new namespaces.
pid_t ForkInto(int flags) {
  return static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0));
}

// Those that a process enters for its children, or is born into.
int FlagsOfBirth(const MechanismSet& had) {
  return (had.Has(Mechanism::kUserNamespace) ? CLONE_NEWUSER : 0) |
         (had.Has(Mechanism::kPidNamespace) ? CLONE_NEWPID : 0);
}

// Root needs none to make the other namespaces.
bool NeedsUserNamespace(const Plan& plan) {
  return !MayAdministrate() || NeedFor(plan, Mechanism::kUserNamespace).has_value();
}

}  // namespace

absl::StatusOr<FirstProcess> FirstProcess::Start(const Plan& plan) {
  absl::StatusOr<Pipe> report = Pipe::Create();
  absl::StatusOr<Pipe> joined = Pipe::Create();
  if (!report.ok()) return report.status();
  if (!joined.ok()) return joined.status();
  const UserAndGroup caller = UserAndGroup::Current();
  MechanismSet had;
  if (NeedsUserNamespace(plan)) had.Add(Mechanism::kUserNamespace);
  if (plan.own_processes) had.Add(Mechanism::kPidNamespace);
  const pid_t first = ForkInto(FlagsOfBirth(had));
  if (first < 0) return absl::ErrnoToStatus(errno, "cannot make a process in new namespaces");
  if (first == 0) BecomeFirst(plan, caller, had, *std::move(report), *std::move(joined));
  FileDescriptor process(static_cast<int>(syscall(SYS_pidfd_open, first, 0)));
  report->write_end = FileDescriptor();
  absl::StatusOr<Report> told = Listen(report->read_end.get());
  if (!told.ok()) {
    // It may be in place, and wait for who joins: nobody will.
    joined->write_end = FileDescriptor();
    waitpid(first, nullptr, __WALL);
    return told.status();
  }
  return FirstProcess(told->had, told->root_mount, std::move(process),
                      std::move(joined->write_end));
}

absl::Status FirstProcess::AdoptChildren() const {
  const int flags = FlagsOfBirth(had_);
  if (flags == 0 || setns(process_.get(), flags) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "cannot enter the namespaces of the first process");
}

absl::Status FirstProcess::Join() {
  int flags = 0;
  for (const Namespace& row : kJoined) flags |= had_.Has(row.mechanism) ? row.flag : 0;
  if (setns(process_.get(), flags) != 0) {
    return absl::ErrnoToStatus(errno, "cannot join the namespaces of the first process");
  }
  // The kernel goes to the topmost mount of "/": the view must be all that is there.
  if (RootMount() != root_mount_) {
    return absl::InternalError("the root directory is not the one that was put together");
  }
  if (write(joined_.get(), "j", 1) != 1) {
    return absl::ErrnoToStatus(errno, "the first process is gone");
  }
  process_ = FileDescriptor();
  joined_ = FileDescriptor();
  return absl::OkStatus();
}

void FirstProcess::Discard() {
  joined_ = FileDescriptor();
  siginfo_t info;
  waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED);
}

}  // namespace dunebox::confinement
