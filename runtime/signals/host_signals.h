// The host's side of signals: one handler for all of them, the raw system calls around it.
//
// The handler never runs guest code. It notes the signal in the thread's PendingSignals, blocks
// everything else until the run loop has delivered it, kicks the engine, and moves RIP out of the
// interruptible system-call window. Faults of the runtime's own guest-memory copies continue at
// their fixup; any other fault of the runtime is a bug and ends the process with 125.
#ifndef DUNEBOX_RUNTIME_SIGNALS_HOST_SIGNALS_H_
#define DUNEBOX_RUNTIME_SIGNALS_HOST_SIGNALS_H_

#include <signal.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "runtime/signals/action.h"

namespace dunebox::signals {

// Signals a thread has taken from the kernel and not yet given to the guest. Written by the host
// handler on the owning thread, read by that thread with the handler's signals blocked.
class PendingSignals {
 public:
  // The word the system-call stub checks, and how the engine is told; set before the first signal.
  void Attach(std::atomic<std::uint32_t>* flag, void (*kick)(void*), void* kick_argument);

  // Async-signal-safe. False: one of the same number, which are queued, has not been delivered yet.
  bool Add(int signal, const siginfo_t& info);
  // The next pending signal not in `blocked`, taken out: the CPU's first, then by number. 0 when there is none.
  int Take(std::uint64_t blocked, siginfo_t& info);
  // Async-signal-safe: as Add, with nothing to deliver.
  void Interrupt();
  // Gives back to the kernel, for the calling thread, what is in `blocked`, which the host blocks by now:
  // there it stays pending for all to see. What the kernel has no room for stays here.
  void GiveBack(std::uint64_t blocked);
  // The next program's runtime is told of them.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (std::uint64_t left = mask(); left != 0; left &= left - 1) {
      visit(info_[static_cast<std::size_t>(std::countr_zero(left)) + 1]);
    }
  }
  // Forgets everything: a forked child starts with nothing pending.
  void Clear() { mask_.store(0, std::memory_order_relaxed); }
  std::uint64_t mask() const { return mask_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t>* flag_ = nullptr;
  void (*kick_)(void*) = nullptr;
  void* kick_argument_ = nullptr;
  std::atomic<std::uint64_t> mask_{0};
  std::array<siginfo_t, kSignalCount + 1> info_{};
};

// The calling host thread is new, and has all signals blocked: until it runs guest code it is nobody's.
void BeginHostThread();

// The calling thread's pending signals; null before a thread runs guest code.
void SetCurrentPending(PendingSignals* pending);

// Installs the handler for the signals the CPU raises. Once a process, before any guest memory is
// touched.
void InstallFaultHandlers();
// Installs our handler for `signal` with the flags that decide restarting (guest's SA_RESTART,
// SA_NOCLDSTOP, SA_NOCLDWAIT), or default or ignore.
void InstallHostHandler(int signal, std::uint64_t guest_flags);
void InstallHostDisposition(int signal, std::uint64_t default_or_ignore);
// What the process has now.
KernelAction HostDisposition(int signal);

// The calling thread's host mask; synchronous signals stay unblocked whatever `mask` says.
void SetHostMask(std::uint64_t mask);
std::uint64_t HostMask();

// Makes a thread of this process, known by its id, look up from what it does: its pending signals are
// those of Interrupt. Comes as a SIGTRAP, which the host never blocks.
void Wake(pid_t thread);

// Sends the calling thread `signal`, for which the host's disposition is the default by now, with all others shut
// out: the kernel does what that is. Who calls sets the mask anew.
void LeaveToKernel(int signal);
// Ends the process by `signal` with its default action, as if no handler had been there.
[[noreturn]] void DieBySignal(int signal);

}  // namespace dunebox::signals

#endif  // DUNEBOX_RUNTIME_SIGNALS_HOST_SIGNALS_H_
