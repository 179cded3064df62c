// Ends calls that take too long: one thread for all sandboxes of the process, which sleeps until
// the earliest deadline that it knows of. A call costs two stores and no system call, unless its
// deadline comes before the one that the watchdog waits for.
//
// Budgets of processor time are the same thread's business: nobody uses more of a processor than
// the time that passes, so it looks at the clock of the budget's thread when what was left could be
// used up, and again after what is left then. Whoever waits is left alone.
//
// Deadlines are at most a tick of the kernel's coarse clock late (and never early), and a kick that
// comes when its call is over already is harmless: whoever is kicked looks at its own deadline.
//
//   Watch watch(Watchdog::Instance());     // one a guest thread
//   watch.Set(CoarseNow() + time);
//   watch.SetBudget(gettid(), CpuTimeOf(gettid()) + budget);
#ifndef DUNEBOX_SANDBOX_PLUGIN_WATCHDOG_H_
#define DUNEBOX_SANDBOX_PLUGIN_WATCHDOG_H_

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <set>

namespace dunebox::plugin {

// Nanoseconds of the kernel's coarse monotonic clock.
std::uint64_t CoarseNow();

// What a thread of this process has used of a processor, in nanoseconds; 0: there is none.
std::uint64_t CpuTimeOf(pid_t thread);

inline constexpr std::uint64_t kNoDeadline = std::numeric_limits<std::uint64_t>::max();

class Watchdog;

// The deadline of whatever one guest thread is running.
class Watch {
 public:
  // `kick` is called by the watchdog's thread, again and again, while the deadline has passed.
  Watch(Watchdog& watchdog, std::function<void()> kick);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void Set(std::uint64_t deadline);
  std::uint64_t deadline() const { return deadline_.load(std::memory_order_relaxed); }
  bool HasPassed() const { return deadline() != kNoDeadline && CoarseNow() >= deadline(); }

  // Until `thread`'s clock shows `limit`; kNoDeadline: no budget any more.
  void SetBudget(pid_t thread, std::uint64_t limit);
  std::uint64_t budget() const { return budget_.load(std::memory_order_relaxed); }
  // Of who may call SetBudget.
  bool IsBudgetUsed() const {
    return budget() != kNoDeadline &&
           CpuTimeOf(thread_.load(std::memory_order_relaxed)) >= budget();
  }

 private:
  friend class Watchdog;
  Watchdog& watchdog_;
  // For the watchdog: kicks who has to be. When to look again.
  std::uint64_t Look(std::uint64_t now);
  std::uint64_t LookAtBudget(std::uint64_t now);

  const std::function<void()> kick_;
  std::atomic<std::uint64_t> deadline_{kNoDeadline};
  std::atomic<std::uint64_t> budget_{kNoDeadline};
  std::atomic<pid_t> thread_{0};
  // When the budget could be used up at the earliest.
  std::atomic<std::uint64_t> next_budget_look_{kNoDeadline};
};

class Watchdog {
 public:
  // The process's; its thread begins with the first and is never joined.
  static Watchdog& Instance();

 private:
  friend class Watch;
  Watchdog();
  [[noreturn]] void Main();
  void WakeBefore(std::uint64_t deadline);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Watch*> watches_;
  // When the thread looks again. Written with the lock held.
  std::atomic<std::uint64_t> next_look_{kNoDeadline};
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_WATCHDOG_H_
