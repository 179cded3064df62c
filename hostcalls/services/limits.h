// What a process believes about its resource limits where the kernel's own would hit the runtime.
//
// RLIMIT_NOFILE: the kernel's soft limit is the guest's, but the hard one stays the host's, because
// the runtime's descriptors lie above (reserved_fd.h). RLIMIT_STACK, RLIMIT_AS and RLIMIT_DATA: remembered,
// never given to the kernel, which would apply them to the runtime's stack and mappings; but where the kernel has less
// than the program asks for, and may have more, it gets that. Whoever maps the program's memory keeps the latter two
// (memory_limits.h).
// RLIMIT_CORE: remembered; the kernel's is such that it never writes a core file, which would have
// the runtime's memory in it. RLIMIT_FSIZE: the soft limit is the kernel's, too, while the program
// runs; the runtime makes bigger files of its own before that. All other limits are the kernel's. "Dumpable" is remembered for the
// same reason.
//
// One object a process, as the kernel has it: a child made by fork or vfork gets a copy.
//
//   VirtualLimits limits(DefaultReservedDescriptors());
//   if (absl::Status status = limits.Install(); !status.ok()) return status;
//   absl::StatusOr<ReservedFd> kvm = limits.DuplicateToReserved(fd);
#ifndef DUNEBOX_HOSTCALLS_SERVICES_LIMITS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_LIMITS_H_

#include <sys/resource.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"
#include "hostcalls/services/descriptor_changes.h"
#include "hostcalls/services/low_descriptors.h"
#include "hostcalls/services/memory_limits.h"
#include "hostcalls/services/reserved_fd.h"
#include "hostcalls/services/unix_names.h"

namespace dunebox::hostcalls {

class LimitNotes;   // limit_notes.h
class OutputMeter;  // output_meter.h

class VirtualLimits {
 public:
  explicit VirtualLimits(ReservedDescriptors reserved);
  // The parent's limits, from then on the child's own.
  VirtualLimits(OfVforkedChild, VirtualLimits& parent);
  VirtualLimits(const VirtualLimits&) = delete;
  VirtualLimits& operator=(const VirtualLimits&) = delete;

  // Takes over the limits that the process was started with and fills the fixed slots (root and
  // /proc). Once, before the first guest instruction and before threads. Core files end here.
  absl::Status Install();
  // Takes the root directory and the /proc that are there now for the program's. Again when the
  // process has got others since Install; no descriptor leads to the old ones then.
  absl::Status UseCurrentRoot();

  ReservedDescriptors reserved() const { return reserved_; }
  static bool IsVirtual(int resource);

  // For virtual resources only.
  rlimit Get(int resource) const;
  SyscallResult Set(int resource, const rlimit& limit);
  // What of them is kept when memory is mapped. Lives as long as this.
  const MemoryLimits& memory() const { return memory_; }

  // Gives the kernel the guest's RLIMIT_FSIZE; until then there is none but the host's.
  absl::Status ApplyFileSize();
  // While one of these lives the guest's limits do not apply to files and descriptors that the
  // runtime makes. For a process that has one thread.
  class Lifted {
   public:
    explicit Lifted(VirtualLimits& limits);
    ~Lifted();
    Lifted(const Lifted&) = delete;
    Lifted& operator=(const Lifted&) = delete;

   private:
    VirtualLimits& limits_;
  };

  // For a runtime that was started anew in the process: what its predecessor had remembered.
  void Restore(int resource, const rlimit& limit);

  // Around fork.
  void LockForFork() { mutex_.lock(); }
  void UnlockAfterFork() { mutex_.unlock(); }

  // A copy of `fd` in the reserved range, closed on exec. `fd` stays open.
  absl::StatusOr<ReservedFd> DuplicateToReserved(int fd);
  // The same for handlers: the number, or an errno of the guest's kind.
  CopyResult<ReservedFd> Reserve(int fd);
  // For a caller that is alone with its descriptor table (Caller::LoneThread), until its call is over: a copy under the
  // highest number that the guest may have. Nobody can change what it means, and it takes a third of the time.
  CopyResult<ReservedFd> SetAside(int fd);
  // For the same, whose id `thread` is: the directory of procfs with its descriptors, by their numbers. -1: it
  // cannot be had.
  int DescriptorsOf(pid_t thread);
  // Threads begin or end, or this is a forked child: ids may mean others from now on.
  void ForgetDescriptors() { descriptors_of_ = 0; }
  // Calls `create`, which returns a new descriptor or -errno, where the guest's limit does not count.
  int WithRoom(absl::FunctionRef<int()> create);
  // Replaces what a fixed slot holds.
  SyscallResult SetSlot(int fd, ReservedSlot slot);

  // Is the descriptor's object the runtime's own executable?
  bool IsRuntimeFile(int fd) const;
  // Is it the program's that this process runs?
  bool IsProgramFile(int fd) const;
  // May the object behind a path that was followed be one that only the runtime leads to? False is
  // certain, except for a directory that was reached through one of the runtime's descriptors.
  bool MayBeHidden(const struct stat& status) const;

  // What the guest called a unix socket that it bound.
  void RememberUnixName(ino_t socket, std::string path) {
    const std::lock_guard lock(mutex_);
    unix_names_.Remember(socket, std::move(path));
  }
  std::optional<std::string> FindUnixName(ino_t socket) const {
    const std::lock_guard lock(mutex_);
    return unix_names_.Find(socket);
  }

  // PR_SET_DUMPABLE as the guest sees it. The runtime's own setting is never changed by it.
  std::atomic<int> dumpable{1};
  // After a chroot of the guest's "/proc" may not be there or not be a procfs.
  std::atomic<bool> root_changed{false};
  // Keeps forks and siblings away from descriptors of the runtime's that have an ordinary number
  // for a moment.
  LowDescriptors low_descriptors;
  // What the session may still write to the files it began with; null: any amount. Set before the
  // first call. Changes are counted only where there is a limit.
  OutputMeter* output = nullptr;
  // Where it is noted what the session's limits refuse; null: it has none that refuses. Set before
  // the first call.
  LimitNotes* notes = nullptr;
  DescriptorChanges descriptor_changes;

 private:
  rlimit& Remembered(int resource) { return remembered_[static_cast<std::size_t>(resource)]; }
  void Remember(int resource, const rlimit& limit);
  absl::Status NoteIdentities(int root, int proc);

  const ReservedDescriptors reserved_;
  mutable std::mutex mutex_;    // guards what follows and the kernel's RLIMIT_NOFILE; never held
                                // across a call that blocks or touches guest memory
  rlim_t host_hard_limit_ = 0;  // the kernel's RLIMIT_NOFILE; 0: not read yet
  std::array<rlimit, RLIMIT_NLIMITS> remembered_;  // of the virtual ones
  MemoryLimits memory_;

  UnixNames unix_names_;
  std::atomic<pid_t> descriptors_of_{0};  // whose ReservedSlot::kDescriptors has; 0: nobody's

  // What only the runtime leads to, by device and inode. Set by Install.
  struct FileIdentity {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const FileIdentity&) const = default;
  };
  FileIdentity runtime_file_;
  FileIdentity root_;
  dev_t proc_device_ = 0;
};

SyscallResult HandleGetrlimit(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleSetrlimit(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandlePrlimit64(Caller& caller, const ArgumentValues& arguments);
void RegisterLimitHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_LIMITS_H_
