// Signal dispositions of a process: what the guest asked for, in the kernel's own layout.
//
// The host's disposition mirrors it: default and ignore are the kernel's business, a guest
// handler is our host handler with the guest's flags. Shared between threads (CLONE_SIGHAND).
//
//   handlers.Set(SIGUSR1, action);   // and installs the host's side
#ifndef DUNEBOX_RUNTIME_SIGNALS_ACTION_H_
#define DUNEBOX_RUNTIME_SIGNALS_ACTION_H_

#include <signal.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "hostcalls/abi/signal_actions.h"

namespace dunebox::signals {

inline constexpr int kSignalCount = abi::SignalActions::kSignals;  // 1..64

using KernelAction = abi::SignalAction;

inline constexpr std::uint64_t kSaNoCldStop = 0x1;
inline constexpr std::uint64_t kSaNoCldWait = 0x2;
inline constexpr std::uint64_t kSaSigInfo = 0x4;
inline constexpr std::uint64_t kSaRestorer = 0x0400'0000;
inline constexpr std::uint64_t kSaOnStack = 0x0800'0000;
inline constexpr std::uint64_t kSaRestart = 0x1000'0000;
inline constexpr std::uint64_t kSaNoDefer = 0x4000'0000;
inline constexpr std::uint64_t kSaResetHand = 0x8000'0000;
// Which of them the host's handler has, too.
inline constexpr std::uint64_t kSaHosts = kSaRestart | kSaNoCldStop | kSaNoCldWait;
static_assert(kSaHosts == DUNE_ACTION_HOST_FLAGS);

constexpr std::uint64_t MaskOf(int signal) { return std::uint64_t{1} << (signal - 1); }
// Never blockable. [POSIX]
inline constexpr std::uint64_t kUnblockable = MaskOf(SIGKILL) | MaskOf(SIGSTOP);
static_assert(kUnblockable == DUNE_UNBLOCKABLE_SIGNALS);
// Raised by the CPU: the host never blocks them, since the runtime's copies rely on them.
inline constexpr std::uint64_t kSynchronous = MaskOf(SIGSEGV) | MaskOf(SIGBUS) | MaskOf(SIGILL) |
                                              MaskOf(SIGFPE) | MaskOf(SIGTRAP);
constexpr bool IsSynchronous(int signal) { return (kSynchronous & MaskOf(signal)) != 0; }

class SignalHandlers {
 public:
  SignalHandlers() = default;
  // A child's copy (fork, vfork). The host's side is inherited by the kernel.
  SignalHandlers(const SignalHandlers& other);
  SignalHandlers& operator=(const SignalHandlers&) = delete;

  // Around fork.
  void LockForFork() { mutex_.lock(); }
  void UnlockAfterFork() { mutex_.unlock(); }

  // Takes over what the process inherited: ignored stays ignored, everything else is default.
  void Inherit();
  KernelAction Get(int signal) const;
  // Signals that come to a handler of the guest's, so that a host handler is told of them first.
  std::uint64_t handled() const { return handled_.load(std::memory_order_relaxed); }
  // Records the action and installs the host's side of it. Returns the old one.
  KernelAction Set(int signal, const KernelAction& action);
  // Records an action that ring 0 has put there, if that may be without a word to the host.
  void Replace(int signal, const KernelAction& action);
  // Another number whenever any of them changes; never 0.
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void CopyTo(abi::SignalActions& actions) const;
  // Installs the host's side of what is recorded: something else has changed it.
  void Reinstall(int signal);
  // From now on these come to us although the guest leaves them to their default, which we carry out:
  // a debugger or a core file wants to see the program before. The signals of the CPU do in any case.
  void TakeDefaults(std::uint64_t signals);
  // Every handler becomes the default; what is ignored stays so (CLONE_CLEAR_SIGHAND).
  void ResetHandled();
  // SA_RESETHAND: back to default, as the handler is entered.
  void Reset(int signal);

 private:
  void InstallOnHost(int signal, const KernelAction& action);
  void Note(int signal, const KernelAction& action);

  mutable std::mutex mutex_;
  std::array<KernelAction, kSignalCount + 1> actions_{};
  std::uint64_t taken_defaults_ = 0;
  std::atomic<std::uint64_t> handled_{0};  // what actions_ says
  std::atomic<std::uint64_t> version_{1};
};

}  // namespace dunebox::signals

#endif  // DUNEBOX_RUNTIME_SIGNALS_ACTION_H_
