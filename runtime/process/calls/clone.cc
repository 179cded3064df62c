// clone, clone3, fork, vfork: which of the three shapes is asked for, and the answer for all
// others.
//
//   thread  CLONE_VM|THREAD|SIGHAND|FS|FILES...  another host thread, another vCPU
//   vfork   CLONE_VM|CLONE_VFORK                 another host process in the same memory
//   fork    none of them                         another host process with a copy of the memory
#include <linux/sched.h>
#include <signal.h>

#include <array>
#include <span>

#include "hostcalls/services/support.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/clone.h"

namespace dunebox::process {
namespace {

using hostcalls::ArgumentValues;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::SyscallResult;

constexpr std::uint64_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                         CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                                         CLONE_NEWNET | CLONE_NEWTIME;
constexpr std::uint64_t kThreadFlags =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
// Flags that only say where ids are written.
constexpr std::uint64_t kIdFlags =
    CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_SETTLS;
constexpr std::uint64_t kThreadAllowed =
    kThreadFlags | kIdFlags | CLONE_SYSVSEM | CLONE_DETACHED | CLONE_IO;
constexpr std::uint64_t kForkAllowed =
    kIdFlags | CLONE_PIDFD | CLONE_VFORK | CLONE_DETACHED | CLONE_CLEAR_SIGHAND | CLONE_IO;

SyscallResult Clone(Caller& caller, const CloneRequest& request) {
  GuestThread& thread = GuestThread::From(caller);
  if ((request.flags & kNewNamespaces) != 0) return Errno{EPERM};
  if ((request.flags & CLONE_SETTLS) != 0 &&
      !caller.memory.window().AllowsSegmentBase(request.tls)) {
    return Errno{EPERM};
  }
  if ((request.flags & CLONE_PIDFD) != 0) {
    const bool is_one_place = (request.flags & CLONE_PARENT_SETTID) != 0 && request.pidfd == request.parent_tid;
    if (is_one_place || (request.flags & CLONE_DETACHED) != 0) return Errno{EINVAL};
  }
  if ((request.flags & CLONE_THREAD) != 0) {
    const bool whole = (request.flags & kThreadFlags) == kThreadFlags;
    if (!whole || (request.flags & ~kThreadAllowed) != 0 || request.stack == 0) {
      return Errno{EINVAL};
    }
    return StartThread(thread, request);
  }
  // The parent's handler would take one of these for a fault of the runtime's.
  const bool has_signal = request.exit_signal > 0 && request.exit_signal <= signals::kSignalCount;
  if (has_signal && signals::IsSynchronous(request.exit_signal)) return Errno{EINVAL};
  if ((request.flags & CLONE_VM) != 0) {
    constexpr std::uint64_t kShape = CLONE_VM | CLONE_VFORK;
    const bool vfork = (request.flags & kShape) == kShape;
    if (!vfork || (request.flags & ~(kForkAllowed | kShape)) != 0) return Errno{EINVAL};
    return VforkProcess(thread, request);
  }
  if ((request.flags & ~kForkAllowed) != 0) return Errno{EINVAL};
  return ForkProcess(thread, request);
}

SyscallResult HandleClone(Caller& caller, const ArgumentValues& a) {
  return Clone(caller, {.flags = a[0] & ~std::uint64_t{CSIGNAL},
                        .exit_signal = static_cast<int>(a[0] & CSIGNAL),
                        .stack = a[1],
                        .parent_tid = a[2],
                        .pidfd = a[2],
                        .child_tid = a[3],
                        .tls = a[4]});
}

SyscallResult HandleClone3(Caller& caller, const ArgumentValues& a) {
  constexpr std::uint64_t kSmallest = 64;  // CLONE_ARGS_SIZE_VER0
  clone_args arguments{};
  SyscallResult copied = hostcalls::CopyInExtensible(
      caller.memory, a[0], a[1], kSmallest, std::as_writable_bytes(std::span(&arguments, 1)));
  if (!copied.ok()) return copied;
  if (arguments.set_tid_size != 0) return Errno{EPERM};
  if (arguments.exit_signal > signals::kSignalCount || (arguments.flags & CSIGNAL) != 0) {
    return Errno{EINVAL};
  }
  if ((arguments.stack == 0) != (arguments.stack_size == 0)) return Errno{EINVAL};
  return Clone(caller, {.flags = arguments.flags,
                        .exit_signal = static_cast<int>(arguments.exit_signal),
                        .stack = arguments.stack + arguments.stack_size,
                        .parent_tid = arguments.parent_tid,
                        .pidfd = arguments.pidfd,
                        .child_tid = arguments.child_tid,
                        .tls = arguments.tls});
}

SyscallResult HandleFork(Caller& caller, const ArgumentValues&) {
  return Clone(caller, {.exit_signal = SIGCHLD});
}

SyscallResult HandleVfork(Caller& caller, const ArgumentValues&) {
  return Clone(caller, {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD});
}

}  // namespace

void RegisterCloneHandlers(hostcalls::HandlerTable& handlers) {
  handlers.Bind("clone", HandleClone);
  handlers.Bind("clone3", HandleClone3);
  handlers.Bind("fork", HandleFork);
  handlers.Bind("vfork", HandleVfork);
}

}  // namespace dunebox::process
