// Ends calls that take too long: one thread for all sandboxes of the process, which sleeps until the
// earliest deadline that it knows of. A call costs two stores and no system call, unless its deadline
// comes before the one that the watchdog waits for.
//
// Deadlines are at most a tick of the kernel's coarse clock late (and never early), and a kick that
// comes when its call is over already is harmless: whoever is kicked looks at its own deadline.
//
//   Watch watch(Watchdog::Instance());     // one a guest thread
//   watch.Begin(CoarseNow() + budget, [&] { thread.Kick(); });   // see below
#ifndef DUNEBOX_SANDBOX_PLUGIN_WATCHDOG_H_
#define DUNEBOX_SANDBOX_PLUGIN_WATCHDOG_H_

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

 private:
  friend class Watchdog;
  Watchdog& watchdog_;
  const std::function<void()> kick_;
  std::atomic<std::uint64_t> deadline_{kNoDeadline};
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
