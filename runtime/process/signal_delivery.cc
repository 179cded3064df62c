#include "runtime/process/signal_delivery.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/process/process.h"
#include "runtime/process/report.h"

namespace dunebox::process {

using signals::KernelAction;
using signals::MaskOf;

namespace {

// [linux] SIG_KERNEL_IGNORE_MASK
constexpr std::uint64_t kIgnoredByDefault =
    MaskOf(SIGCONT) | MaskOf(SIGCHLD) | MaskOf(SIGWINCH) | MaskOf(SIGURG);

// [linux] SIG_KERNEL_STOP_MASK, but for the one that cannot be handled.
constexpr std::uint64_t kStopsByDefault = MaskOf(SIGTSTP) | MaskOf(SIGTTIN) | MaskOf(SIGTTOU);

// Enters the guest's handler. False when its stack cannot take the frame.
bool EnterHandler(GuestThread& thread, const KernelAction& action, const siginfo_t& info,
                  const signals::TrapInfo& trap) {
  SignalState& state = thread.signal;
  const std::optional<PoolPause> pause = thread.pool_use.PauseForFrame(thread);
  const std::uint64_t mask_to_restore = state.mask_to_restore.value_or(state.mask);
  const absl::StatusOr<bool> pushed = signals::PushFrame({.registers = &thread.registers,
                                                          .engine = thread.engine.get(),
                                                          .memory = &thread.memory,
                                                          .alternate_stack = &state.alternate_stack,
                                                          .mask = mask_to_restore},
                                                         action, info, trap);
  if (!pushed.ok()) EndByEngineFailure(std::string(pushed.status().message()));
  if (!*pushed) return false;
  state.mask_to_restore.reset();
  state.mask |= action.mask;
  if ((action.flags & signals::kSaNoDefer) == 0) state.mask |= MaskOf(info.si_signo);
  if ((action.flags & signals::kSaResetHand) != 0) {
    thread.owner.signal_handlers().Reset(info.si_signo);
  }
  return true;
}

// The stack could not take a frame: SIGSEGV instead, which has its own handler and stack perhaps.
void DeliverStackFault(GuestThread& thread, int failed_signal) {
  const KernelAction action = thread.owner.signal_handlers().Get(SIGSEGV);
  siginfo_t info{};
  info.si_signo = SIGSEGV;
  info.si_code = SI_KERNEL;
  const bool handled = failed_signal != SIGSEGV && !action.is_default() && !action.is_ignore() &&
                       (thread.signal.mask & MaskOf(SIGSEGV)) == 0 &&
                       EnterHandler(thread, action, info, {});
  if (!handled) thread.Die(info);
}

// What a debugger lets through of a signal that is about to be delivered; false: nothing.
bool PassDebugger(GuestThread& thread, siginfo_t& info) {
  Debugger* const debugger = thread.owner.debugger();
  if (debugger == nullptr) return true;
  const int signal = debugger->OnSignal(thread, info);
  if (signal != info.si_signo) {
    info = {};
    info.si_signo = signal;
    info.si_code = SI_USER;
    info.si_pid = getpid();
  }
  return signal != 0;
}

// The debugger, if there is one, has agreed.
void Deliver(GuestThread& thread, const siginfo_t& info) {
  const int signal = info.si_signo;
  const KernelAction action = thread.owner.signal_handlers().Get(signal);
  if (action.is_ignore()) return;
  if (action.is_default()) {
    // Only for signals whose host disposition is ours for another reason, or a lost race with
    // sigaction: the kernel carries out defaults itself.
    if ((kIgnoredByDefault & MaskOf(signal)) != 0) return;
    if ((kStopsByDefault & MaskOf(signal)) != 0) return signals::LeaveToKernel(signal);
    thread.Die(info);
  }
  if (!EnterHandler(thread, action, info, {})) DeliverStackFault(thread, signal);
}

}  // namespace

void SetInitialMask(GuestThread& thread) { SetSignalMask(thread, signals::HostMask()); }

void SetSignalMask(GuestThread& thread, std::uint64_t mask) {
  thread.signal.mask = mask & ~signals::kUnblockable;
  signals::SetHostMask(thread.signal.mask);
  // What the host took just before, the guest must find pending now.
  thread.signal.pending.GiveBack(thread.signal.mask & ~signals::kSynchronous);
  // Signals of the CPU's kind that somebody sent while the guest blocked them wait with us.
  if ((thread.signal.pending.mask() & ~thread.signal.mask) != 0) thread.signal_pending = 1;
}

void DeliverPending(GuestThread& thread) {
  thread.signal_pending = 0;
  thread.engine->Unkick();
  siginfo_t info;
  while (thread.signal.pending.Take(thread.signal.mask, info) != 0) {
    if (thread.owner.trace() != nullptr) thread.owner.trace()->OnSignal(info);
    if (PassDebugger(thread, info)) Deliver(thread, info);
  }
  if (thread.signal.mask_to_restore) {
    // The call that replaced the mask is over and no handler took it back.
    thread.signal.mask = *std::exchange(thread.signal.mask_to_restore, std::nullopt);
  }
  SetSignalMask(thread, thread.signal.mask);
}

void DeliverInjected(GuestThread& thread, int signal) {
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = SI_USER;
  info.si_pid = getpid();
  Deliver(thread, info);
  SetSignalMask(thread, thread.signal.mask);
}

void DeliverFault(GuestThread& thread, const runtime::Fault& fault) {
  std::vector<std::byte> extended_state;
  if (fault.vector == dune::x86::Vector::kFloatingPoint ||
      fault.vector == dune::x86::Vector::kSimdFloatingPoint) {
    extended_state.resize(thread.engine->extended_state_size());
    if (!thread.engine->SaveExtendedState(extended_state).ok()) extended_state.clear();
  }
  siginfo_t info = SignalOfFault(fault, thread.registers.rip, extended_state);
  if (thread.owner.trace() != nullptr) thread.owner.trace()->OnSignal(info);
  const int raised = info.si_signo;
  if (!PassDebugger(thread, info)) return;
  if (info.si_signo != raised) {
    Deliver(thread, info);
    SetSignalMask(thread, thread.signal.mask);
    return;
  }
  const int signal = info.si_signo;
  const KernelAction action = thread.owner.signal_handlers().Get(signal);
  const bool blocked = (thread.signal.mask & MaskOf(signal)) != 0;
  if (blocked || action.is_default() || action.is_ignore()) {
    ReportEnd(thread.owner);
    thread.Die(info);
  }

  const signals::TrapInfo trap{.vector = static_cast<std::uint64_t>(fault.vector),
                               .error_code = fault.error_code,
                               .address = fault.address};
  if (!EnterHandler(thread, action, info, trap)) {
    DeliverStackFault(thread, signal);
  }
  SetSignalMask(thread, thread.signal.mask);
  thread.pool_use.AfterFault(thread, fault);
}

}  // namespace dunebox::process
