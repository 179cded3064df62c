// Signals within a plugin. The host application's are not touched: a plugin can only signal itself.
#include <signal.h>

#include <limits>
#include <optional>

#include "sandbox/plugin/calls.h"

namespace dunebox::plugin::calls {
namespace {

using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;
using signals::KernelAction;

constexpr std::uint64_t kMaskSize = 8;

bool IsSignal(int signal) { return signal >= 1 && signal <= signals::kSignalCount; }

SyscallResult Send(const Calling& call, int target, int signal) {
  if (signal != 0 && !IsSignal(signal)) return Errno{EINVAL};
  return call.kernel.process().SendSignal(call.thread, target, signal);
}

}  // namespace

SyscallResult SetAction(const Calling& call) {
  const int signal = call.Int(0);
  if (call[3] != kMaskSize || !IsSignal(signal)) return Errno{EINVAL};
  std::optional<KernelAction> fresh;
  if (call[1] != 0) {
    if ((signals::MaskOf(signal) & signals::kUnblockable) != 0) return Errno{EINVAL};
    const auto copied = call.memory.CopyIn(GuestPtr<KernelAction>{call[1]});
    if (!copied.ok()) return copied.error();
    fresh = *copied;
    fresh->mask &= ~signals::kUnblockable;
  }
  const KernelAction old =
      fresh ? call.kernel.SetAction(signal, *fresh) : call.kernel.ActionOf(signal);
  return call[2] == 0 ? kSuccess : call.memory.CopyOut(GuestPtr<KernelAction>{call[2]}, old);
}

SyscallResult SetMask(const Calling& call) {
  if (call[3] != kMaskSize) return Errno{EINVAL};
  const std::uint64_t old = call.thread.signal_mask;
  if (call[1] != 0) {
    const auto copied = call.memory.CopyIn(GuestPtr<std::uint64_t>{call[1]});
    if (!copied.ok()) return copied.error();
    std::uint64_t mask = *copied;
    switch (call.Int(0)) {
      case SIG_BLOCK:
        mask = old | mask;
        break;
      case SIG_UNBLOCK:
        mask = old & ~mask;
        break;
      case SIG_SETMASK:
        break;
      default:
        return Errno{EINVAL};
    }
    call.thread.signal_mask = mask & ~signals::kUnblockable;
  }
  return call[2] == 0 ? kSuccess : call.memory.CopyOut(GuestPtr<std::uint64_t>{call[2]}, old);
}

SyscallResult ReturnFromHandler(const Calling& call) {
  PluginThread& thread = call.thread;
  std::uint64_t mask = thread.signal_mask;
  const absl::StatusOr<bool> popped =
      signals::PopFrame({.registers = &thread.registers,
                         .engine = thread.engine,
                         .memory = &call.memory,
                         .alternate_stack = &thread.alternate_stack,
                         .mask = mask},
                        &mask);
  thread.signal_mask = mask & ~signals::kUnblockable;
  if (!popped.value_or(false)) {
    call.kernel.process().End(
        {.kind = Failure::Kind::kTrap, .signal = SIGSEGV, .instruction = thread.registers.rip});
  }
  return SyscallResult::RegistersSet();
}

SyscallResult SetAlternateStack(const Calling& call) {
  signals::AlternateStack& current = call.thread.alternate_stack;
  signals::AlternateStack old = current;
  const bool is_on_it = old.enabled() && old.Contains(call.thread.registers.rsp);
  if (is_on_it) old.flags |= SS_ONSTACK;
  if (call[0] != 0) {
    const auto fresh = call.memory.CopyIn(GuestPtr<signals::AlternateStack>{call[0]});
    if (!fresh.ok()) return fresh.error();
    if (is_on_it) return Errno{EPERM};
    const std::int32_t mode = (*fresh).flags & ~signals::kAutoDisarm;
    if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) return Errno{EINVAL};
    if (mode == SS_DISABLE) {
      current = {};
    } else {
      if ((*fresh).size < signals::kMinimumAlternateStack) return Errno{ENOMEM};
      current = *fresh;
      current.flags &= signals::kAutoDisarm;
    }
  }
  return call[1] == 0 ? kSuccess
                      : call.memory.CopyOut(GuestPtr<signals::AlternateStack>{call[1]}, old);
}

// To itself; its process group has nobody else in it.
SyscallResult Kill(const Calling& call) {
  const int target = call.Int(0);
  if (target != kVirtualPid && target != 0 && target != -kVirtualPid) {
    if (target != -1) call.kernel.NoteDenial("signal to another process");
    return Errno{target == -1 ? ESRCH : EPERM};
  }
  return Send(call, 0, call.Int(1));
}

SyscallResult ThreadKill(const Calling& call) { return Send(call, call.Int(0), call.Int(1)); }

SyscallResult ThreadGroupKill(const Calling& call) {
  if (call.Int(0) != kVirtualPid) {
    call.kernel.NoteDenial("signal to another process");
    return Errno{EPERM};
  }
  return Send(call, call.Int(1), call.Int(2));
}

}  // namespace dunebox::plugin::calls
