// rt_sig* and sigaltstack: the guest's dispositions and mask are ours, pending sets are the
// kernel's.
#include <sys/syscall.h>

#include "hostcalls/dispatch/host_call.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"
#include "runtime/process/signal_delivery.h"

namespace dunebox::process {
namespace {

using hostcalls::ArgumentValues;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::HostCall;
using hostcalls::kSuccess;
using hostcalls::RuntimeCall;
using hostcalls::SyscallResult;
using signals::AlternateStack;
using signals::KernelAction;

constexpr std::uint64_t kMaskSize = sizeof(std::uint64_t);

SyscallResult HandleSigaction(Caller& caller, const ArgumentValues& a) {
  const int signal = static_cast<int>(a[0]);
  if (a[3] != kMaskSize || signal < 1 || signal > signals::kSignalCount) return Errno{EINVAL};
  signals::SignalHandlers& handlers = GuestThread::From(caller).owner.signal_handlers();
  KernelAction old = handlers.Get(signal);
  if (a[1] != 0) {
    auto action = caller.memory.CopyIn(GuestPtr<KernelAction>{a[1]});
    if (!action.ok()) return action.error();
    if (signal == SIGKILL || signal == SIGSTOP) return Errno{EINVAL};
    old = handlers.Set(signal, *action);
  }
  return a[2] == 0 ? kSuccess : caller.memory.CopyOut(GuestPtr<KernelAction>{a[2]}, old);
}

SyscallResult HandleSigprocmask(Caller& caller, const ArgumentValues& a) {
  if (a[3] != kMaskSize) return Errno{EINVAL};
  GuestThread& thread = GuestThread::From(caller);
  const std::uint64_t old = thread.signal.mask;
  if (a[1] != 0) {
    auto set = caller.memory.CopyIn(GuestPtr<std::uint64_t>{a[1]});
    if (!set.ok()) return set.error();
    switch (static_cast<int>(a[0])) {
      case SIG_BLOCK:
        SetSignalMask(thread, old | *set);
        break;
      case SIG_UNBLOCK:
        SetSignalMask(thread, old & ~*set);
        break;
      case SIG_SETMASK:
        SetSignalMask(thread, *set);
        break;
      default:
        return Errno{EINVAL};
    }
  }
  return a[2] == 0 ? kSuccess : caller.memory.CopyOut(GuestPtr<std::uint64_t>{a[2]}, old);
}

SyscallResult HandleSigreturn(Caller& caller, const ArgumentValues&) {
  GuestThread& thread = GuestThread::From(caller);
  std::uint64_t mask = thread.signal.mask;
  if (!signals::PopFrame({.registers = &thread.registers,
                          .engine = thread.engine.get(),
                          .memory = &thread.memory,
                          .alternate_stack = &thread.signal.alternate_stack,
                          .mask = thread.signal.mask},
                         &mask)) {
    // As a fault of the guest's: Linux forces SIGSEGV too.
    SetSignalMask(thread, mask);
    DeliverFault(thread, {.vector = dune::x86::Vector::kGeneralProtection,
                          .error_code = 0,
                          .address = 0,
                          .memory_error = false});
    return SyscallResult::RegistersSet();
  }
  SetSignalMask(thread, mask);
  return SyscallResult::RegistersSet();
}

SyscallResult HandleSigaltstack(Caller& caller, const ArgumentValues& a) {
  GuestThread& thread = GuestThread::From(caller);
  AlternateStack& current = thread.signal.alternate_stack;
  AlternateStack old = current;
  const bool on_stack = current.enabled() && current.Contains(thread.registers.rsp);
  if (on_stack) old.flags |= SS_ONSTACK;
  if (a[0] != 0) {
    auto wanted = caller.memory.CopyIn(GuestPtr<AlternateStack>{a[0]});
    if (!wanted.ok()) return wanted.error();
    if (on_stack) return Errno{EPERM};
    const int mode = wanted->flags & ~signals::kAutoDisarm;
    if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) return Errno{EINVAL};
    if (mode == SS_DISABLE) {
      current = AlternateStack{};
    } else {
      if (wanted->size < signals::kMinimumAlternateStack) return Errno{ENOMEM};
      wanted->flags &= ~SS_ONSTACK;
      current = *wanted;
    }
  }
  return a[1] == 0 ? kSuccess : caller.memory.CopyOut(GuestPtr<AlternateStack>{a[1]}, old);
}

// A siginfo that a process makes up. The kernel lets a process claim a fault of its own (si_code
// >= 0); our host handler would have to believe it, so only codes of senders pass.
SyscallResult QueueSignal(Caller& caller, std::uint64_t number, ArgumentValues a,
                          std::size_t info_index) {
  if (a[info_index] == 0) return HostCall(caller, number, a);
  auto info = caller.memory.CopyIn(GuestPtr<siginfo_t>{a[info_index]});
  if (!info.ok()) return info.error();
  if (info->si_code >= 0) return Errno{EPERM};
  a[info_index] = reinterpret_cast<std::uint64_t>(&*info);
  return RuntimeCall(caller, number, a);
}

SyscallResult HandleSigqueueinfo(Caller& caller, const ArgumentValues& a) {
  return QueueSignal(caller, SYS_rt_sigqueueinfo, a, 2);
}

SyscallResult HandleTgsigqueueinfo(Caller& caller, const ArgumentValues& a) {
  return QueueSignal(caller, SYS_rt_tgsigqueueinfo, a, 3);
}

SyscallResult HandlePidfdSendSignal(Caller& caller, const ArgumentValues& a) {
  return QueueSignal(caller, SYS_pidfd_send_signal, a, 2);
}

SyscallResult HandleSigtimedwait(Caller& caller, const ArgumentValues& a) {
  if (a[3] != kMaskSize) return Errno{EINVAL};
  auto set = caller.memory.CopyIn(GuestPtr<std::uint64_t>{a[0]});
  if (!set.ok()) return set.error();
  // The other pointers are checked by the row; the set is the kernel's to read from our copy.
  hostcalls::StagingScope staged(caller.staging);
  return HostCall(caller, SYS_rt_sigtimedwait,
                  {reinterpret_cast<std::uint64_t>(staged.Place(*set)), a[1], a[2], kMaskSize});
}

SyscallResult Signalfd(Caller& caller, std::uint64_t fd, std::uint64_t set_address,
                       std::uint64_t size, std::uint64_t flags) {
  if (size != kMaskSize) return Errno{EINVAL};
  auto set = caller.memory.CopyIn(GuestPtr<std::uint64_t>{set_address});
  if (!set.ok()) return set.error();
  return RuntimeCall(caller, SYS_signalfd4,
                     {fd, reinterpret_cast<std::uint64_t>(&*set), kMaskSize, flags});
}

SyscallResult HandleSignalfd(Caller& caller, const ArgumentValues& a) {
  return Signalfd(caller, a[0], a[1], a[2], 0);
}

SyscallResult HandleSignalfd4(Caller& caller, const ArgumentValues& a) {
  return Signalfd(caller, a[0], a[1], a[2], a[3]);
}

}  // namespace

void RegisterSignalHandlers(hostcalls::HandlerTable& handlers) {
  handlers.Bind("rt_sigaction", HandleSigaction);
  handlers.Bind("rt_sigprocmask", HandleSigprocmask);
  handlers.Bind("rt_sigreturn", HandleSigreturn);
  handlers.Bind("sigaltstack", HandleSigaltstack);
  handlers.Bind("rt_sigqueueinfo", HandleSigqueueinfo);
  handlers.Bind("rt_tgsigqueueinfo", HandleTgsigqueueinfo);
  handlers.Bind("pidfd_send_signal", HandlePidfdSendSignal);
  handlers.Bind("rt_sigtimedwait", HandleSigtimedwait);
  handlers.Bind("signalfd", HandleSignalfd);
  handlers.Bind("signalfd4", HandleSignalfd4);
}

}  // namespace dunebox::process
