// Who a plugin is, its threads, its end.
#include <asm/prctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <span>

#include "hostcalls/services/support.h"
#include "sandbox/plugin/calls.h"

namespace dunebox::plugin::calls {
namespace {

using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;

constexpr std::uint64_t kRobustListHeadSize = 24;  // [linux]

constexpr std::uint64_t kThreadFlags =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
constexpr std::uint64_t kThreadAllowed = kThreadFlags | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |
                                         CLONE_CHILD_CLEARTID | CLONE_SETTLS | CLONE_SYSVSEM |
                                         CLONE_DETACHED;

// A thread of the plugin's; anything else would be a process.
SyscallResult MakeThread(const Calling& call, const NewThread& request, std::uint64_t flags) {
  if ((flags & CLONE_THREAD) == 0) {
    call.kernel.NoteDenial("fork");
    return Errno{EPERM};
  }
  if ((flags & kThreadFlags) != kThreadFlags || (flags & ~kThreadAllowed) != 0 ||
      request.stack == 0) {
    return Errno{EINVAL};
  }
  return call.kernel.process().StartThread(call.thread, request);
}

NewThread Request(std::uint64_t flags, std::uint64_t stack, std::uint64_t parent_tid,
                  std::uint64_t child_tid, std::uint64_t tls) {
  NewThread request{.stack = stack};
  if ((flags & CLONE_PARENT_SETTID) != 0) request.parent_tid = parent_tid;
  if ((flags & CLONE_CHILD_SETTID) != 0) request.child_tid = child_tid;
  if ((flags & CLONE_CHILD_CLEARTID) != 0) request.clear_tid = child_tid;
  if ((flags & CLONE_SETTLS) != 0) request.thread_pointer = tls;
  return request;
}

}  // namespace

SyscallResult Exit(const Calling& call) {
  call.thread.has_exited = true;
  return SyscallResult::RegistersSet();
}

SyscallResult ExitGroup(const Calling& call) {
  call.kernel.process().End({.kind = Failure::Kind::kExited, .exit_status = call.Int(0)});
  return SyscallResult::RegistersSet();
}

SyscallResult Clone(const Calling& call) {
  const std::uint64_t flags = call[0] & ~std::uint64_t{CSIGNAL};
  return MakeThread(call, Request(flags, call[1], call[2], call[3], call[4]), flags);
}

SyscallResult Clone3(const Calling& call) {
  constexpr std::uint64_t kSmallest = 64;  // CLONE_ARGS_SIZE_VER0 [linux]
  clone_args arguments{};
  const SyscallResult copied =
      hostcalls::CopyInExtensible(call.memory, call[0], call[1], kSmallest,
                                  std::as_writable_bytes(std::span(&arguments, 1)));
  if (!copied.ok()) return copied;
  if (arguments.set_tid_size != 0) return Errno{EPERM};
  const std::uint64_t stack =
      arguments.stack == 0 ? 0 : arguments.stack + arguments.stack_size;
  return MakeThread(call,
                    Request(arguments.flags, stack, arguments.parent_tid, arguments.child_tid,
                            arguments.tls),
                    arguments.flags);
}

SyscallResult SetTidAddress(const Calling& call) {
  call.thread.clear_child_tid = call[0];
  return SyscallResult(call.thread.id);
}

// Nobody walks it: a sandbox whose thread dies without unlocking is over.
SyscallResult SetRobustList(const Calling& call) {
  return call[1] == kRobustListHeadSize ? kSuccess : SyscallResult(Errno{EINVAL});
}

SyscallResult NotThere(const Calling&) { return Errno{ENOSYS}; }

SyscallResult ArchControl(const Calling& call) {
  runtime::Registers& registers = call.thread.registers;
  if (!call.thread.engine->FetchBases(registers).ok()) return Errno{EIO};
  switch (call[0]) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
      if (!call.memory.window().AllowsSegmentBase(call[1])) return Errno{EPERM};
      (call[0] == ARCH_SET_FS ? registers.fs_base : registers.gs_base) = call[1];
      return kSuccess;
    case ARCH_GET_FS:
      return call.memory.CopyOut(GuestPtr<std::uint64_t>{call[1]}, registers.fs_base);
    case ARCH_GET_GS:
      return call.memory.CopyOut(GuestPtr<std::uint64_t>{call[1]}, registers.gs_base);
    default:
      return Errno{EINVAL};  // as on a kernel without it
  }
}

// Names of threads are accepted and forgotten.
SyscallResult ProcessControl(const Calling& call) {
  return call.Int(0) == PR_SET_NAME ? kSuccess : SyscallResult(Errno{EINVAL});
}

SyscallResult GetPid(const Calling&) { return SyscallResult(kVirtualPid); }
SyscallResult GetTid(const Calling& call) { return SyscallResult(call.thread.id); }
SyscallResult GetParent(const Calling&) { return SyscallResult(kVirtualPid - 1); }
// As the auxiliary vector says.
SyscallResult GetUser(const Calling&) { return SyscallResult(static_cast<std::int64_t>(getuid())); }
SyscallResult GetGroup(const Calling&) {
  return SyscallResult(static_cast<std::int64_t>(getgid()));
}

SyscallResult Name(const Calling& call) {
  constexpr std::string_view kNode = "sandbox";
  utsname name{};
  if (uname(&name) != 0) return Errno{errno};
  std::ranges::fill(name.nodename, '\0');
  std::ranges::copy(kNode, name.nodename);
  static_assert(sizeof(name) == 390);
  return call.memory.CopyOut(GuestPtr<utsname>{call[0]}, name);
}

// A machine that has what the sandbox may use.
SyscallResult SystemInformation(const Calling& call) {
  struct sysinfo info{};
  info.totalram = info.freeram = call.kernel.policy().memory_limit;
  info.mem_unit = 1;
  info.procs = 1;
  static_assert(sizeof(info) == 112);
  return call.memory.CopyOut(GuestPtr<struct sysinfo>{call[0]}, info);
}

// getrlimit(resource, old) and prlimit64(pid, resource, new, old).
SyscallResult GetLimit(const Calling& call) {
  const bool is_prlimit = call.thread.registers.rax == SYS_prlimit64;
  const int resource = call.Int(is_prlimit ? 1 : 0);
  const std::uint64_t to = call[is_prlimit ? 3 : 1];
  if (resource < 0 || resource >= RLIM_NLIMITS) return Errno{EINVAL};
  if (is_prlimit && call[2] != 0) return Errno{EPERM};
  if (is_prlimit && call.Int(0) != 0 && call.Int(0) != kVirtualPid) return Errno{EPERM};
  rlim_t most = RLIM_INFINITY;
  if (resource == RLIMIT_STACK) most = call.kernel.policy().stack;
  if (resource == RLIMIT_NOFILE) most = static_cast<rlim_t>(call.kernel.descriptors().most());
  if (resource == RLIMIT_DATA || resource == RLIMIT_AS) most = call.kernel.policy().memory_limit;
  if (to == 0) return kSuccess;
  return call.memory.CopyOut(GuestPtr<rlimit>{to}, rlimit{most, most});
}

SyscallResult Yield(const Calling& call) { return call.Host(SYS_sched_yield, {}); }

SyscallResult GetAffinity(const Calling& call) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const SyscallResult size =
      call.Host(SYS_sched_getaffinity, hostcalls::Arguments(0, sizeof(set), &set));
  if (!size.ok()) return size;
  const auto bytes = std::as_bytes(std::span(&set, 1)).first(size.ToRegister());
  if (call[1] < bytes.size()) return Errno{EINVAL};
  if (!call.memory.Write(call[2], bytes)) return Errno{EFAULT};
  return size;
}

}  // namespace dunebox::plugin::calls
