// mmap and its family, over the address space. Shared memory segments are attached where the
// address space finds room, like any other mapping.
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <set>
#include <string>

#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/support.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

using hostcalls::ArgumentValues;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::HostCall;
using hostcalls::SyscallResult;

memory::AddressSpace& SpaceOf(Caller& caller) { return GuestThread::From(caller).owner.space(); }

// The host's kernel is never asked to make the program's memory executable, so it cannot refuse it for this. Asked before any
// lock is held: the file system may answer late, or be a sibling's. No wall, so a sibling that changes the descriptor wins nothing.
bool IsOnNoexecMount(int fd) {
  struct statfs file_system{};
  return fstatfs(fd, &file_system) == 0 && (static_cast<unsigned long>(file_system.f_flags) & ST_NOEXEC) != 0;
}

SyscallResult HandleMmap(Caller& caller, const ArgumentValues& a) {
  if (!IsPageAligned(a[5])) return Errno{EINVAL};
  if (hostcalls::HasFileRules(caller) && (a[2] & PROT_EXEC) != 0 && (a[3] & MAP_ANONYMOUS) == 0) {
    // A sibling that changes the descriptor now wins nothing: what may be read can be copied into
    // memory and executed there.
    const SyscallResult allowed =
        hostcalls::RequireRights(caller, hostcalls::AsInt(a[4]), hostcalls::policy::kExecuteFile);
    if (!allowed.ok()) return allowed;
  }
  const bool is_file = (a[3] & MAP_ANONYMOUS) == 0;
  return SpaceOf(caller).Map({.address = a[0],
                              .length = a[1],
                              .prot = static_cast<int>(a[2]),
                              .flags = static_cast<int>(a[3]),
                              .fd = static_cast<int>(a[4]),
                              .offset = a[5],
                              .never_executable = is_file && IsOnNoexecMount(hostcalls::AsInt(a[4])),
                              .low_descriptors = &caller.limits.low_descriptors});
}

SyscallResult HandleMunmap(Caller& caller, const ArgumentValues& a) {
  return SpaceOf(caller).Unmap(a[0], a[1]);
}

// The names of the files that are mapped in a range.
std::set<std::string> FilesIn(Caller& caller, const GuestRange& range) {
  std::set<std::string> names;
  SpaceOf(caller).WithMap([&](const memory::VmaMap& map) {
    map.ForEachIn(range, [&](const memory::Vma& vma) {
      if (vma.file_backed && vma.backing != nullptr) names.insert(vma.backing->name);
      return true;
    });
  });
  return names;
}

SyscallResult HandleMprotect(Caller& caller, const ArgumentValues& a) {
  if (hostcalls::HasFileRules(caller) && (a[2] & PROT_EXEC) != 0 &&
      caller.memory.Contains(a[0], a[1])) {
    const GuestRange range{GuestVirt{a[0]}, GuestVirt{a[0] + a[1]}};
    for (const std::string& name : FilesIn(caller, range)) {
      const SyscallResult allowed =
          hostcalls::RequireRightsOnName(caller, name, hostcalls::policy::kExecuteFile);
      if (!allowed.ok()) return allowed;
    }
  }
  return SpaceOf(caller).Protect(a[0], a[1], static_cast<int>(a[2]));
}

SyscallResult HandleMremap(Caller& caller, const ArgumentValues& a) {
  return SpaceOf(caller).Remap({.old_address = a[0],
                                .old_length = a[1],
                                .new_length = a[2],
                                .flags = static_cast<int>(a[3]),
                                .new_address = a[4]});
}

SyscallResult HandleMadvise(Caller& caller, const ArgumentValues& a) {
  return SpaceOf(caller).Advise(a[0], a[1], static_cast<int>(a[2]));
}

SyscallResult HandleBrk(Caller& caller, const ArgumentValues& a) {
  return SpaceOf(caller).Break(a[0]);
}

// Calls whose first two arguments are a range of the guest's and which change no mapping.
template <std::uint64_t Number>
SyscallResult HandleRange(Caller& caller, const ArgumentValues& a) {
  if (a[1] != 0 && !caller.memory.Contains(a[0], a[1])) return Errno{ENOMEM};
  return HostCall(caller, Number, a);
}

// The same where the kernel notes something of the range that would not hold for other memory there.
template <std::uint64_t Number>
SyscallResult HandleLock(Caller& caller, const ArgumentValues& a) {
  if (caller.memory.Contains(a[0], a[1])) {
    SpaceOf(caller).KeepFromPool({GuestVirt{a[0]}, GuestVirt{a[0] + a[1]}});
  }
  return HandleRange<Number>(caller, a);
}

// The answer is one byte a page, at an address of the guest's that has to be checked as well.
SyscallResult HandleMincore(Caller& caller, const ArgumentValues& a) {
  if (!IsPageAligned(a[0])) return Errno{EINVAL};
  if (a[1] != 0 && !caller.memory.Contains(a[0], a[1])) return Errno{ENOMEM};
  if (!caller.memory.Contains(a[2], PageUp(a[1]) / kPageSize)) return Errno{EFAULT};
  return HostCall(caller, SYS_mincore, a);
}

SyscallResult HandleMlockall(Caller& caller, const ArgumentValues& a) {
  return SpaceOf(caller).LockAll(static_cast<int>(a[0]));
}

SyscallResult HandleMunlockall(Caller& caller, const ArgumentValues&) {
  return SpaceOf(caller).UnlockAll();
}

SyscallResult HandleShmget(Caller& caller, const ArgumentValues& a) {
  return HostCall(caller, SYS_shmget, a);
}

SyscallResult HandleShmat(Caller& caller, const ArgumentValues& a) {
  return SpaceOf(caller).AttachShared(static_cast<int>(a[0]), a[1], static_cast<int>(a[2]));
}

SyscallResult HandleShmdt(Caller& caller, const ArgumentValues& a) {
  return SpaceOf(caller).DetachShared(a[0]);
}

// The commands with what they point to. [shmctl(2)]
struct ShmCommand {
  int command;
  std::uint32_t bytes;
};
constexpr ShmCommand kShmCommands[] = {
    {IPC_STAT, sizeof(shmid_ds)},
    {IPC_SET, sizeof(shmid_ds)},
    {IPC_RMID, 0},
    {IPC_INFO, sizeof(shminfo)},
    {SHM_INFO, sizeof(struct shm_info)},
    {SHM_STAT, sizeof(shmid_ds)},
    {SHM_LOCK, 0},
    {SHM_UNLOCK, 0},
    {15 /* SHM_STAT_ANY */, sizeof(shmid_ds)},
};

SyscallResult HandleShmctl(Caller& caller, const ArgumentValues& a) {
  for (const ShmCommand& row : kShmCommands) {
    if (row.command != static_cast<int>(a[1])) continue;
    if (row.bytes != 0 && !caller.memory.Contains(a[2], row.bytes)) return Errno{EFAULT};
    return HostCall(caller, SYS_shmctl, {a[0], a[1], row.bytes == 0 ? 0 : a[2]});
  }
  return Errno{EINVAL};
}

}  // namespace

void RegisterMemoryHandlers(hostcalls::HandlerTable& handlers) {
  handlers.Bind("mmap", HandleMmap);
  handlers.Bind("munmap", HandleMunmap);
  handlers.Bind("mprotect", HandleMprotect);
  handlers.Bind("mremap", HandleMremap);
  handlers.Bind("madvise", HandleMadvise);
  handlers.Bind("brk", HandleBrk);
  handlers.Bind("mincore", HandleMincore);
  handlers.Bind("msync", HandleRange<SYS_msync>);
  handlers.Bind("mlock", HandleLock<SYS_mlock>);
  handlers.Bind("mlock2", HandleLock<SYS_mlock2>);
  handlers.Bind("munlock", HandleRange<SYS_munlock>);
  handlers.Bind("mlockall", HandleMlockall);
  handlers.Bind("munlockall", HandleMunlockall);
  handlers.Bind("shmget", HandleShmget);
  handlers.Bind("shmat", HandleShmat);
  handlers.Bind("shmdt", HandleShmdt);
  handlers.Bind("shmctl", HandleShmctl);
}

}  // namespace dunebox::process
