#include "sandbox/plugin/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace dunebox::plugin {
namespace {

// How soon a thread is kicked again that goes on all the same: it was on its way somewhere.
constexpr std::uint64_t kAgain = 5'000'000;
constexpr std::uint64_t kLongestSleep = 3'600'000'000'000;

}  // namespace

std::uint64_t CoarseNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// As pthread_getcpuclockid makes it, for who knows the kernel's id. [linux]
std::uint64_t CpuTimeOf(pid_t thread) {
  constexpr clockid_t kOfThread = 4, kOfScheduler = 2;
  timespec used;
  if (clock_gettime((~thread << 3) | kOfThread | kOfScheduler, &used) != 0) return 0;
  return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(used.tv_nsec);
}

Watch::Watch(Watchdog& watchdog, std::function<void()> kick)
    : watchdog_(watchdog), kick_(std::move(kick)) {
  const std::lock_guard lock(watchdog_.mutex_);
  watchdog_.watches_.insert(this);
}

Watch::~Watch() {
  const std::lock_guard lock(watchdog_.mutex_);
  watchdog_.watches_.erase(this);
}

void Watch::Set(std::uint64_t deadline) {
  if (deadline == kNoDeadline) {
    deadline_.store(deadline, std::memory_order_relaxed);
    return;
  }
  // The watchdog says when it looks next before it looks at deadlines: it sees this one, or we see
  // that it will look too late.
  deadline_.store(deadline, std::memory_order_seq_cst);
  if (deadline < watchdog_.next_look_.load(std::memory_order_seq_cst)) {
    watchdog_.WakeBefore(deadline);
  }
}

void Watch::SetBudget(pid_t thread, std::uint64_t limit) {
  if (limit == kNoDeadline) {
    next_budget_look_.store(kNoDeadline, std::memory_order_relaxed);
    budget_.store(limit, std::memory_order_relaxed);
    return;
  }
  thread_.store(thread, std::memory_order_relaxed);
  budget_.store(limit, std::memory_order_relaxed);
  const std::uint64_t used = CpuTimeOf(thread);
  const std::uint64_t look = CoarseNow() + (limit > used ? limit - used : 0);
  // As in Set.
  next_budget_look_.store(look, std::memory_order_seq_cst);
  if (look < watchdog_.next_look_.load(std::memory_order_seq_cst)) watchdog_.WakeBefore(look);
}

// The budget may be set anew meanwhile: then what is found out here counts for nothing, but for a
// kick too many.
std::uint64_t Watch::LookAtBudget(std::uint64_t now) {
  std::uint64_t look = next_budget_look_.load(std::memory_order_seq_cst);
  if (look > now) return look;
  const std::uint64_t used = CpuTimeOf(thread_.load(std::memory_order_relaxed));
  const std::uint64_t limit = budget();
  if (used >= limit) {
    kick_();
    return now + kAgain;
  }
  const std::uint64_t next = limit == kNoDeadline ? kNoDeadline : now + (limit - used);
  return next_budget_look_.compare_exchange_strong(look, next) ? next : look;
}

std::uint64_t Watch::Look(std::uint64_t now) {
  const std::uint64_t deadline = deadline_.load(std::memory_order_seq_cst);
  const std::uint64_t budget = LookAtBudget(now);
  if (deadline > now) return std::min(deadline, budget);
  kick_();
  return std::min(now + kAgain, budget);
}

// Never destroyed: calls may run while the process's statics are.
Watchdog& Watchdog::Instance() {
  static auto* const instance = new Watchdog;
  return *instance;
}

Watchdog::Watchdog() {
  // The application's signals are not for this thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([this] { Main(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Watchdog::WakeBefore(std::uint64_t deadline) {
  const std::lock_guard lock(mutex_);
  if (deadline >= next_look_.load(std::memory_order_relaxed)) return;
  next_look_.store(deadline, std::memory_order_seq_cst);
  changed_.notify_one();
}

void Watchdog::Main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const std::uint64_t now = CoarseNow();
    // Whoever sets a deadline from here on sees that nobody looks, and wakes us.
    next_look_.store(kNoDeadline, std::memory_order_seq_cst);
    std::uint64_t next = kNoDeadline;
    for (Watch* watch : watches_) next = std::min(next, watch->Look(now));
    next_look_.store(next, std::memory_order_seq_cst);
    const auto is_earlier = [&] { return next_look_.load(std::memory_order_relaxed) < next; };
    if (next == kNoDeadline) {
      changed_.wait(lock, is_earlier);
    } else {
      // What is centuries away is more than the clock has.
      changed_.wait_for(lock, std::chrono::nanoseconds(std::min(next - now, kLongestSleep)), is_earlier);
    }
  }
}

}  // namespace dunebox::plugin
