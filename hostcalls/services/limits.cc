#include "hostcalls/services/limits.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "hostcalls/check.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/services/session_processes.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr ino_t kProcRootInode = 1;  // [linux] PROC_ROOT_INO
constexpr rlimit kUnlimited{RLIM_INFINITY, RLIM_INFINITY};
constexpr int kVirtual[] = {RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_AS, RLIMIT_DATA, RLIMIT_CORE, RLIMIT_FSIZE};

// The root of a mounted procfs, opened without rights; or why there is none.
absl::StatusOr<ReservedFd> OpenProc() {
  ReservedFd proc(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct statfs file_system {};
  struct stat status {};
  if (!proc.valid() || fstatfs(proc.get(), &file_system) != 0 ||
      file_system.f_type != PROC_SUPER_MAGIC || fstat(proc.get(), &status) != 0 ||
      status.st_ino != kProcRootInode) {
    return errors::Named(errors::Id::kNoProc, absl::FailedPreconditionError("/proc is not mounted; Dunebox cannot run without it"));
  }
  return proc;
}

// The root directory, which must not be a part of procfs: the fast way of open() relies on it.
absl::StatusOr<ReservedFd> OpenRoot() {
  ReservedFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct statfs file_system {};
  if (!root.valid() || fstatfs(root.get(), &file_system) != 0 ||
      file_system.f_type == PROC_SUPER_MAGIC) {
    return errors::Named(errors::Id::kHostRefused, absl::FailedPreconditionError("the root directory cannot be opened or is a procfs"));
  }
  return root;
}

int OrErrno(int result) { return result < 0 ? -errno : result; }

// The kernel's soft limit; the hard one stays the host's.
bool SetSoft(int resource, rlim_t soft) {
  const auto kind = static_cast<__rlimit_resource>(resource);
  rlimit host{};
  if (getrlimit(kind, &host) != 0) return false;
  host.rlim_cur = std::min(soft, host.rlim_max);
  return setrlimit(kind, &host) == 0;
}

// The same where that is more than now.
bool RaiseSoft(int resource, rlim_t soft) {
  rlimit host{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &host) != 0) return false;
  return soft <= host.rlim_cur || SetSoft(resource, soft);
}

}  // namespace

VirtualLimits::VirtualLimits(ReservedDescriptors reserved)
    : reserved_(reserved) {
  remembered_.fill(kUnlimited);
  const auto first = static_cast<rlim_t>(reserved.first);
  Remember(RLIMIT_NOFILE, {first, first});
}

VirtualLimits::VirtualLimits(OfVforkedChild of, VirtualLimits& parent)
    : dumpable(parent.dumpable.load()),
      root_changed(parent.root_changed.load()),
      low_descriptors(of, parent.low_descriptors),
      output(parent.output),
      notes(parent.notes),
      reserved_(parent.reserved_),
      unix_names_([&] {
        const std::lock_guard lock(parent.mutex_);
        return parent.unix_names_;
      }()),
      runtime_file_(parent.runtime_file_),
      root_(parent.root_),
      proc_device_(parent.proc_device_) {
  for (const int resource : kVirtual) Remember(resource, parent.Get(resource));
}

// While the limit is up, a sibling whose table is full up to the range (not just up to its own soft
// limit) can be given a number in it. It cannot use it: the dispatcher refuses the number.
int VirtualLimits::WithRoom(absl::FunctionRef<int()> create) {
  const std::lock_guard lock(mutex_);
  rlimit before{};
  rlimit raised{static_cast<rlim_t>(reserved_.first) + static_cast<rlim_t>(reserved_.count),
                host_hard_limit_};
  if (host_hard_limit_ == 0 || prlimit(0, RLIMIT_NOFILE, &raised, &before) != 0) {
    // The first time, or somebody outside has changed the hard limit.
    if (getrlimit(RLIMIT_NOFILE, &before) != 0) return -errno;
    raised.rlim_max = host_hard_limit_ = before.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &raised) != 0) return -errno;
  }
  const int result = create();
  DUNEBOX_CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0, "lowering a limit cannot fail");
  return result;
}

CopyResult<ReservedFd> VirtualLimits::Reserve(int fd) {
  const int lowest = reserved_.first + kFixedSlots;
  const int result = WithRoom([&] { return OrErrno(fcntl(fd, F_DUPFD_CLOEXEC, lowest)); });
  // EINVAL: the host's limit leaves no room above `lowest`; for the guest its table is full.
  if (result == -EINVAL) return Errno{EMFILE};
  if (result < 0) return Errno{-result};
  return ReservedFd(result);
}

CopyResult<ReservedFd> VirtualLimits::SetAside(int fd) {
  const rlim_t highest = Get(RLIMIT_NOFILE).rlim_cur - 1;
  const int aside = fcntl(fd, F_DUPFD_CLOEXEC, highest);
  // The guest has that one itself.
  return aside < 0 ? Reserve(fd) : ReservedFd(aside);
}

int VirtualLimits::DescriptorsOf(pid_t thread) {
  const int number = NumberOf(ReservedSlot::kDescriptors, reserved_);
  if (descriptors_of_ == thread) return number;
  const LowDescriptors::Window window(low_descriptors);
  const ReservedFd low(openat(NumberOf(ReservedSlot::kProc, reserved_), "thread-self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!low.valid() || !SetSlot(low.get(), ReservedSlot::kDescriptors).ok()) return -1;
  descriptors_of_ = thread;
  return number;
}

absl::StatusOr<ReservedFd> VirtualLimits::DuplicateToReserved(int fd) {
  CopyResult<ReservedFd> copy = Reserve(fd);
  if (!copy.ok()) {
    return errors::Named(errors::Id::kNoDescriptors, absl::ErrnoToStatus(copy.error().value, "cannot move a descriptor of the runtime's"));
  }
  return *std::move(copy);
}

SyscallResult VirtualLimits::SetSlot(int fd, ReservedSlot slot) {
  const int number = NumberOf(slot, reserved_);
  return SyscallResult(std::int64_t{WithRoom([&] { return OrErrno(dup3(fd, number, O_CLOEXEC)); })});
}

absl::Status VirtualLimits::Install() {
  rlimit host{};
  if (getrlimit(RLIMIT_NOFILE, &host) != 0) return absl::ErrnoToStatus(errno, "getrlimit");
  // The hard limit of the host cannot be lower than the range: then it was not chosen from it.
  const auto first = static_cast<rlim_t>(reserved_.first);
  if (host.rlim_max < first + static_cast<rlim_t>(reserved_.count)) {
    return errors::Named(errors::Id::kNoDescriptors, absl::FailedPreconditionError("the hard limit of open files is too low"));
  }
  for (const int resource : kVirtual) {
    rlimit limit{};
    if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) {
      return absl::ErrnoToStatus(errno, "getrlimit");
    }
    Remember(resource, limit);
  }
  Remember(RLIMIT_NOFILE, {std::min(host.rlim_cur, first), first});
  const rlimit ours{std::min(host.rlim_cur, first), host.rlim_max};
  if (setrlimit(RLIMIT_NOFILE, &ours) != 0) return absl::ErrnoToStatus(errno, "setrlimit");
  const rlimit any_size{Remembered(RLIMIT_FSIZE).rlim_max, Remembered(RLIMIT_FSIZE).rlim_max};
  if (setrlimit(RLIMIT_FSIZE, &any_size) != 0) return absl::ErrnoToStatus(errno, "setrlimit");
  // With a limit of 0 the kernel still dumps to a program that core_pattern names; with one of 1
  // it does neither. [core(5)] The hard limit stays, for the runtime that execve starts.
  const rlim_t most_core = Remembered(RLIMIT_CORE).rlim_max;
  const rlimit no_core{std::min<rlim_t>(1, most_core), most_core};
  if (setrlimit(RLIMIT_CORE, &no_core) != 0) return absl::ErrnoToStatus(errno, "setrlimit");
  return UseCurrentRoot();
}

absl::Status VirtualLimits::UseCurrentRoot() {
  ForgetDescriptors();
  absl::StatusOr<ReservedFd> root = OpenRoot();
  if (!root.ok()) return root.status();
  absl::StatusOr<ReservedFd> proc = OpenProc();
  if (!proc.ok()) return proc.status();
  if (absl::Status status = NoteIdentities(root->get(), proc->get()); !status.ok()) return status;
  for (const auto& [fd, slot] :
       {std::pair(root->get(), ReservedSlot::kRoot), std::pair(proc->get(), ReservedSlot::kProc)}) {
    const SyscallResult set = SetSlot(fd, slot);
    if (!set.ok()) return errors::Named(errors::Id::kNoDescriptors, absl::ErrnoToStatus(set.error(), "cannot reserve descriptors"));
  }
  return absl::OkStatus();
}

absl::Status VirtualLimits::NoteIdentities(int root, int proc) {
  struct stat root_status {};
  struct stat proc_status {};
  struct stat runtime {};
  if (fstat(root, &root_status) != 0 || fstat(proc, &proc_status) != 0 ||
      stat("/proc/self/exe", &runtime) != 0) {
    return absl::ErrnoToStatus(errno, "cannot look at the runtime's own files");
  }
  root_ = {root_status.st_dev, root_status.st_ino};
  proc_device_ = proc_status.st_dev;
  runtime_file_ = {runtime.st_dev, runtime.st_ino};
  return absl::OkStatus();
}

bool VirtualLimits::IsRuntimeFile(int fd) const {
  struct stat status {};
  return fstat(fd, &status) == 0 && FileIdentity{status.st_dev, status.st_ino} == runtime_file_;
}

bool VirtualLimits::IsProgramFile(int fd) const {
  struct stat status {};
  struct stat program {};
  return fstat(fd, &status) == 0 &&
         fstat(NumberOf(ReservedSlot::kExecutable, reserved_), &program) == 0 &&
         status.st_dev == program.st_dev && status.st_ino == program.st_ino;
}

bool VirtualLimits::MayBeHidden(const struct stat& status) const {
  constexpr unsigned kMiscMajor = 10;
  constexpr unsigned kKvmMinor = 232;  // /dev/kvm [linux]
  if (status.st_dev == proc_device_) return true;
  const FileIdentity identity{status.st_dev, status.st_ino};
  switch (status.st_mode & S_IFMT) {
    case S_IFREG:
      return identity == runtime_file_;
    case S_IFDIR:
      return identity == root_;
    case S_IFCHR:
      return status.st_rdev == makedev(kMiscMajor, kKvmMinor);
    case 0:  // an anonymous inode: virtual machines and their processors
      return true;
    default:
      return false;
  }
}

bool VirtualLimits::IsVirtual(int resource) {
  return std::ranges::find(kVirtual, resource) != std::end(kVirtual);
}

void VirtualLimits::Remember(int resource, const rlimit& limit) {
  Remembered(resource) = limit;
  if (resource == RLIMIT_AS) memory_.all = limit.rlim_cur;
  if (resource == RLIMIT_DATA) memory_.data = limit.rlim_cur;
}

rlimit VirtualLimits::Get(int resource) const {
  const std::lock_guard lock(mutex_);
  return remembered_[static_cast<std::size_t>(resource)];
}

void VirtualLimits::Restore(int resource, const rlimit& limit) {
  const std::lock_guard lock(mutex_);
  Remember(resource, limit);
}

SyscallResult VirtualLimits::Set(int resource, const rlimit& limit) {
  if (limit.rlim_cur > limit.rlim_max) return Errno{EINVAL};
  const std::lock_guard lock(mutex_);
  if (limit.rlim_max > Remembered(resource).rlim_max) return Errno{EPERM};
  if ((resource == RLIMIT_NOFILE || resource == RLIMIT_FSIZE) &&
      !SetSoft(resource, limit.rlim_cur)) {
    return LastErrno();
  }
  const bool is_of_memory = resource == RLIMIT_AS || resource == RLIMIT_DATA;
  if (is_of_memory && !RaiseSoft(resource, limit.rlim_cur)) return LastErrno();
  Remember(resource, limit);
  return kSuccess;
}

absl::Status VirtualLimits::ApplyFileSize() {
  if (SetSoft(RLIMIT_FSIZE, Get(RLIMIT_FSIZE).rlim_cur)) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "cannot limit the size of files");
}

VirtualLimits::Lifted::Lifted(VirtualLimits& limits) : limits_(limits) {
  rlimit host{};
  if (getrlimit(RLIMIT_FSIZE, &host) == 0) SetSoft(RLIMIT_FSIZE, host.rlim_max);
  const ReservedDescriptors& reserved = limits.reserved_;
  SetSoft(RLIMIT_NOFILE, static_cast<rlim_t>(reserved.first) + static_cast<rlim_t>(reserved.count));
}

VirtualLimits::Lifted::~Lifted() {
  const bool lowered = SetSoft(RLIMIT_NOFILE, limits_.Get(RLIMIT_NOFILE).rlim_cur);
  DUNEBOX_CHECK(lowered && limits_.ApplyFileSize().ok(), "lowering a limit cannot fail");
}

// ---- Handlers -----------------------------------------------------------------------------------

namespace {

SyscallResult GetLimit(Caller& caller, pid_t pid, int resource, rlimit* limit) {
  const bool own = pid == 0 || IsOwnTask(pid);
  if (own && VirtualLimits::IsVirtual(resource)) {
    *limit = caller.limits.Get(resource);
    return kSuccess;
  }
  const SyscallResult result =
      RuntimeCall(caller, SYS_prlimit64, Arguments(pid, resource, nullptr, limit));
  if (result.ok() && resource == RLIMIT_NOFILE) {
    // Another process may have a runtime of its own above its descriptors.
    limit->rlim_max = std::min<rlim_t>(
        limit->rlim_max, std::max(limit->rlim_cur, static_cast<rlim_t>(caller.reserved.first)));
  }
  return result;
}

SyscallResult SetLimit(Caller& caller, pid_t pid, int resource, const rlimit& limit) {
  // A limit of another process's would be one of its runtime's.
  if (pid != 0 && !IsOwnTask(pid)) {
    return kill(pid, 0) != 0 && errno == ESRCH ? Errno{ESRCH} : Errno{EPERM};
  }
  if (VirtualLimits::IsVirtual(resource)) return caller.limits.Set(resource, limit);
  return RuntimeCall(caller, SYS_prlimit64, Arguments(0, resource, &limit, nullptr));
}

}  // namespace

SyscallResult HandlePrlimit64(Caller& caller, const ArgumentValues& arguments) {
  const pid_t pid = AsInt(arguments[0]);
  const int resource = AsInt(arguments[1]);
  if (resource < 0 || resource >= RLIMIT_NLIMITS) return Errno{EINVAL};
  const SyscallResult own = RequireSessionProcess(caller, "change limits of", pid);
  if (!own.ok()) return own;
  rlimit wanted{};
  if (arguments[2] != 0) {
    CopyResult<rlimit> copy = caller.memory.CopyIn(GuestPtr<rlimit>{arguments[2]});
    if (!copy.ok()) return copy.error();
    wanted = *copy;
  }
  rlimit before{};
  if (arguments[3] != 0) {
    const SyscallResult got = GetLimit(caller, pid, resource, &before);
    if (!got.ok()) return got;
  }
  if (arguments[2] != 0) {
    const SyscallResult set = SetLimit(caller, pid, resource, wanted);
    if (!set.ok()) return set;
  }
  if (arguments[3] == 0) return kSuccess;
  return caller.memory.CopyOut(GuestPtr<rlimit>{arguments[3]}, before);
}

SyscallResult HandleGetrlimit(Caller& caller, const ArgumentValues& arguments) {
  const int resource = AsInt(arguments[0]);
  if (resource < 0 || resource >= RLIMIT_NLIMITS) return Errno{EINVAL};
  if (arguments[1] == 0) return Errno{EFAULT};
  return HandlePrlimit64(caller, Arguments(0, resource, 0, arguments[1]));
}

SyscallResult HandleSetrlimit(Caller& caller, const ArgumentValues& arguments) {
  if (arguments[1] == 0) return Errno{EFAULT};
  return HandlePrlimit64(caller, Arguments(0, AsInt(arguments[0]), arguments[1], 0));
}

void RegisterLimitHandlers(HandlerTable& handlers) {
  handlers.Bind("getrlimit", HandleGetrlimit);
  handlers.Bind("setrlimit", HandleSetrlimit);
  handlers.Bind("prlimit64", HandlePrlimit64);
}

}  // namespace dunebox::hostcalls
