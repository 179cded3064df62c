#include "runtime/signals/action.h"

#include <algorithm>
#include <utility>

#include "runtime/signals/host_signals.h"

namespace dunebox::signals {

SignalHandlers::SignalHandlers(const SignalHandlers& other) {
  std::lock_guard lock(other.mutex_);
  actions_ = other.actions_;
  taken_defaults_ = other.taken_defaults_;
  handled_ = other.handled();
}

void SignalHandlers::Inherit() {
  std::lock_guard lock(mutex_);
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    KernelAction inherited = HostDisposition(signal);
    if (!inherited.is_ignore()) inherited = KernelAction{};
    actions_[static_cast<std::size_t>(signal)] = inherited;
  }
  handled_ = 0;
  version_.store(version() + 1, std::memory_order_relaxed);
}

KernelAction SignalHandlers::Get(int signal) const {
  std::lock_guard lock(mutex_);
  return actions_[static_cast<std::size_t>(signal)];
}

void SignalHandlers::InstallOnHost(int signal, const KernelAction& action) {
  // The fault handlers stay: the runtime's copies need them. What the guest wants for a signal
  // that somebody sends it is decided at delivery.
  if (IsSynchronous(signal)) return;
  if (action.is_default() && (taken_defaults_ & MaskOf(signal)) != 0) {
    InstallHostHandler(signal, kSaRestart);
  } else if (action.is_default() || action.is_ignore()) {
    InstallHostDisposition(signal, action.handler);
  } else {
    InstallHostHandler(signal, action.flags);
  }
}

KernelAction SignalHandlers::Set(int signal, const KernelAction& action) {
  std::lock_guard lock(mutex_);
  KernelAction wanted = action;
  wanted.mask &= ~kUnblockable;
  InstallOnHost(signal, wanted);
  Note(signal, wanted);
  return std::exchange(actions_[static_cast<std::size_t>(signal)], wanted);
}

void SignalHandlers::TakeDefaults(std::uint64_t signals) {
  std::lock_guard lock(mutex_);
  taken_defaults_ |= signals;
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    const KernelAction& action = actions_[static_cast<std::size_t>(signal)];
    if ((signals & MaskOf(signal)) != 0 && action.is_default()) InstallOnHost(signal, action);
  }
}

void SignalHandlers::Reinstall(int signal) {
  std::lock_guard lock(mutex_);
  InstallOnHost(signal, actions_[static_cast<std::size_t>(signal)]);
}

void SignalHandlers::ResetHandled() {
  for (int signal = 1; signal <= kSignalCount; ++signal) {
    const KernelAction action = Get(signal);
    if (action.is_handled()) Set(signal, KernelAction{});
  }
}

void SignalHandlers::Reset(int signal) {
  std::lock_guard lock(mutex_);
  KernelAction& action = actions_[static_cast<std::size_t>(signal)];
  action.handler = reinterpret_cast<std::uint64_t>(SIG_DFL);
  InstallOnHost(signal, action);
  Note(signal, action);
}

void SignalHandlers::Replace(int signal, const KernelAction& action) {
  std::lock_guard lock(mutex_);
  KernelAction& current = actions_[static_cast<std::size_t>(signal)];
  if (!action.MayReplace(current)) return;
  current = action;
  current.mask &= ~kUnblockable;
  Note(signal, current);
}

void SignalHandlers::CopyTo(abi::SignalActions& actions) const {
  std::lock_guard lock(mutex_);
  std::ranges::copy(actions_, actions.of);
}

// Preconditions: the lock is held.
void SignalHandlers::Note(int signal, const KernelAction& action) {
  version_.store(version() + 1, std::memory_order_relaxed);
  handled_ = action.is_handled() ? handled_ | MaskOf(signal) : handled_ & ~MaskOf(signal);
}

}  // namespace dunebox::signals
