// rt_sig* and sigaltstack: the guest's dispositions and mask are ours, pending sets are the
// kernel's.
#include <sys/syscall.h>
#include <unistd.h>

#include <limits>
#include <optional>
#include <span>

#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/services/session_processes.h"
#include "hostcalls/services/support.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"
#include "runtime/process/signal_delivery.h"

namespace dunebox::process {
namespace {

using hostcalls::ArgumentValues;
using hostcalls::AsInt;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::HostCall;
using hostcalls::kSuccess;
using hostcalls::RuntimeCall;
using hostcalls::StaysInSession;
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
  const absl::StatusOr<bool> popped =
      signals::PopFrame({.registers = &thread.registers,
                         .engine = thread.engine.get(),
                         .memory = &thread.memory,
                         .alternate_stack = &thread.signal.alternate_stack,
                         .mask = thread.signal.mask},
                        &mask);
  if (!popped.ok()) EndByEngineFailure(std::string(popped.status().message()));
  if (!*popped) {
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
  const bool on_stack = signals::StandsOn(current, thread.registers.rsp);
  if (on_stack) old.flags |= SS_ONSTACK;
  if (a[0] != 0) {
    auto wanted = caller.memory.CopyIn(GuestPtr<AlternateStack>{a[0]});
    if (!wanted.ok()) return wanted.error();
    if (on_stack) return Errno{EPERM};
    const std::optional<AlternateStack> stack = signals::AlternateStackFor(*wanted);
    if (!stack) return Errno{EINVAL};
    if (stack->enabled() && stack->size < signals::kMinimumAlternateStack) return Errno{ENOMEM};
    current = *stack;
  }
  return a[1] == 0 ? kSuccess : caller.memory.CopyOut(GuestPtr<AlternateStack>{a[1]}, old);
}

// A siginfo that a process makes up. The kernel lets a process claim a fault of its own (si_code
// >= 0); our host handler would have to believe it, so only codes of senders pass.
hostcalls::CopyResult<siginfo_t> CopyInSender(Caller& caller, std::uint64_t address) {
  auto info = caller.memory.CopyIn(GuestPtr<siginfo_t>{address});
  if (info.ok() && info->si_code >= 0) return Errno{EPERM};
  return info;
}

// Whom a call may signal without being asked: everybody, or its own process.
bool IsOwnProcess(std::uint64_t process) { return static_cast<pid_t>(process) == getpid(); }

bool IsSignal(std::uint64_t number) {
  const int signal = AsInt(number);
  return signal >= 0 && signal <= signals::kSignalCount;
}

SyscallResult SignalSelf(Caller& caller, int signal) {
  return HostCall(caller, SYS_kill, hostcalls::Arguments(getpid(), signal));
}

// To a group, which the caller's process may be in; without one to all others.
SyscallResult SignalGroup(Caller& caller, std::optional<pid_t> group, int signal) {
  const SyscallResult others = hostcalls::SignalSession(caller, group, {.signal = signal});
  return group && getpgrp() == *group ? SignalSelf(caller, signal) : others;
}

SyscallResult HandleKill(Caller& caller, const ArgumentValues& a) {
  const auto process = static_cast<pid_t>(a[0]);
  const bool is_group = process <= 0;
  if (!StaysInSession(caller) || IsOwnProcess(a[0]) ||
      (is_group && caller.guard->rules().audit)) {
    return HostCall(caller, SYS_kill, a);
  }
  if (!IsSignal(a[1])) return Errno{EINVAL};
  const int signal = AsInt(a[1]);
  if (process == std::numeric_limits<pid_t>::min()) return Errno{ESRCH};
  if (process == -1) return SignalGroup(caller, std::nullopt, signal);
  if (is_group) return SignalGroup(caller, process == 0 ? getpgrp() : -process, signal);
  if (hostcalls::IsOwnTask(process)) return SignalSelf(caller, signal);
  return hostcalls::SignalProcess(caller, process, {.signal = signal});
}

SyscallResult HandleTkill(Caller& caller, const ArgumentValues& a) {
  const auto thread = static_cast<pid_t>(a[0]);
  if (!StaysInSession(caller) || thread <= 0) return HostCall(caller, SYS_tkill, a);
  if (!IsSignal(a[1])) return Errno{EINVAL};
  // By both numbers: the thread may be gone, and its number a stranger's.
  if (hostcalls::IsOwnTask(thread)) {
    return HostCall(caller, SYS_tgkill, hostcalls::Arguments(getpid(), thread, AsInt(a[1])));
  }
  return hostcalls::SignalThread(caller, 0, thread, {.signal = AsInt(a[1])});
}

SyscallResult HandleTgkill(Caller& caller, const ArgumentValues& a) {
  const auto process = static_cast<pid_t>(a[0]);
  const auto thread = static_cast<pid_t>(a[1]);
  if (!StaysInSession(caller) || IsOwnProcess(a[0]) || process <= 0 || thread <= 0) {
    return HostCall(caller, SYS_tgkill, a);
  }
  if (!IsSignal(a[2])) return Errno{EINVAL};
  return hostcalls::SignalThread(caller, process, thread, {.signal = AsInt(a[2])});
}

SyscallResult HandleSigqueueinfo(Caller& caller, const ArgumentValues& a) {
  auto info = CopyInSender(caller, a[2]);
  if (!info.ok()) return info.error();
  if (!StaysInSession(caller) || IsOwnProcess(a[0])) {
    return RuntimeCall(caller, SYS_rt_sigqueueinfo, hostcalls::Arguments(a[0], a[1], &*info));
  }
  if (!IsSignal(a[1])) return Errno{EINVAL};
  info->si_signo = AsInt(a[1]);  // as the kernel does
  return hostcalls::SignalProcess(caller, static_cast<pid_t>(a[0]),
                                  {.signal = info->si_signo, .info = &*info});
}

SyscallResult HandleTgsigqueueinfo(Caller& caller, const ArgumentValues& a) {
  auto info = CopyInSender(caller, a[3]);
  if (!info.ok()) return info.error();
  if (!StaysInSession(caller) || IsOwnProcess(a[0])) {
    return RuntimeCall(caller, SYS_rt_tgsigqueueinfo,
                       hostcalls::Arguments(a[0], a[1], a[2], &*info));
  }
  if (!IsSignal(a[2])) return Errno{EINVAL};
  info->si_signo = AsInt(a[2]);
  return hostcalls::SignalThread(caller, static_cast<pid_t>(a[0]), static_cast<pid_t>(a[1]),
                                 {.signal = info->si_signo, .info = &*info});
}

SyscallResult HandlePidfdSendSignal(Caller& caller, const ArgumentValues& a) {
  siginfo_t info{};
  if (a[2] != 0) {
    auto copy = CopyInSender(caller, a[2]);
    if (!copy.ok()) return copy.error();
    info = *copy;
  }
  const siginfo_t* const given = a[2] == 0 ? nullptr : &info;
  // A negative one stands for the caller itself.
  if (!StaysInSession(caller) || AsInt(a[0]) < 0) {
    return RuntimeCall(caller, SYS_pidfd_send_signal,
                       hostcalls::Arguments(a[0], a[1], given, a[3]));
  }
  return hostcalls::SignalHeld(caller, AsInt(a[0]), {.signal = AsInt(a[1]), .info = given},
                               static_cast<unsigned>(a[3]));
}

// Signals of the CPU's kind that were sent to a thread which blocks them are pending with us: the host cannot
// block them.
SyscallResult HandleSigpending(Caller& caller, const ArgumentValues& a) {
  if (a[1] > kMaskSize) return Errno{EINVAL};
  std::uint64_t set = 0;
  const SyscallResult asked =
      RuntimeCall(caller, SYS_rt_sigpending, hostcalls::Arguments(&set, kMaskSize));
  if (!asked.ok()) return asked;
  const SignalState& signal = GuestThread::From(caller).signal;
  set |= signal.pending.mask() & signal.mask;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&set, 1));
  return caller.memory.Write(a[0], bytes.first(a[1])) ? kSuccess : SyscallResult(Errno{EFAULT});
}

// One of `set` that is pending with us, taken; 0: none is.
SyscallResult TakeOwnPending(Caller& caller, std::uint64_t set, std::uint64_t info_address) {
  siginfo_t info;
  const int signal = GuestThread::From(caller).signal.pending.Take(~(set & signals::kSynchronous), info);
  if (signal == 0) return SyscallResult(0);
  if (info_address != 0) {
    SyscallResult copied = caller.memory.CopyOut(GuestPtr<siginfo_t>{info_address}, info);
    if (!copied.ok()) return copied;
  }
  return SyscallResult(signal);
}

SyscallResult HandleSigtimedwait(Caller& caller, const ArgumentValues& a) {
  if (a[3] != kMaskSize) return Errno{EINVAL};
  auto set = caller.memory.CopyIn(GuestPtr<std::uint64_t>{a[0]});
  if (!set.ok()) return set.error();
  const SyscallResult before = TakeOwnPending(caller, *set, a[1]);
  if (before.value() != 0) return before;
  // The other pointers are checked by the row; the set is the kernel's to read from our copy.
  hostcalls::StagingScope staged(caller.staging);
  const SyscallResult result =
      HostCall(caller, SYS_rt_sigtimedwait,
               {reinterpret_cast<std::uint64_t>(staged.Place(*set)), a[1], a[2], kMaskSize});
  if (result.error() != EINTR && !result.is_restart()) return result;
  const SyscallResult meanwhile = TakeOwnPending(caller, *set, a[1]);
  return meanwhile.value() != 0 ? meanwhile : result;
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
  handlers.Bind("kill", HandleKill);
  handlers.Bind("tkill", HandleTkill);
  handlers.Bind("tgkill", HandleTgkill);
  handlers.Bind("rt_sigqueueinfo", HandleSigqueueinfo);
  handlers.Bind("rt_tgsigqueueinfo", HandleTgsigqueueinfo);
  handlers.Bind("pidfd_send_signal", HandlePidfdSendSignal);
  handlers.Bind("rt_sigpending", HandleSigpending);
  handlers.Bind("rt_sigtimedwait", HandleSigtimedwait);
  handlers.Bind("signalfd", HandleSignalfd);
  handlers.Bind("signalfd4", HandleSignalfd4);
}

}  // namespace dunebox::process
