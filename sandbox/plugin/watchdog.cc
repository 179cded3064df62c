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

}  // namespace

std::uint64_t CoarseNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
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

// Never destroyed: calls may run while the process's statics are.
Watchdog& Watchdog::Instance() {
  static Watchdog* const instance = new Watchdog;
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
    for (const Watch* watch : watches_) {
      const std::uint64_t deadline = watch->deadline_.load(std::memory_order_seq_cst);
      if (deadline <= now) {
        watch->kick_();
        next = std::min(next, now + kAgain);
      } else {
        next = std::min(next, deadline);
      }
    }
    next_look_.store(next, std::memory_order_seq_cst);
    const auto is_earlier = [&] { return next_look_.load(std::memory_order_relaxed) < next; };
    if (next == kNoDeadline) {
      changed_.wait(lock, is_earlier);
    } else {
      changed_.wait_for(lock, std::chrono::nanoseconds(next - now), is_earlier);
    }
  }
}

}  // namespace dunebox::plugin
