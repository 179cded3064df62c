// Whose turn it is: first come, first served. With a mutex, who comes again and again may keep others waiting for ever.
//
//   const Turns::Turn turn(turns, [&] { return MustStop(); });
//   if (!turn.is_mine()) return;      // it had to stop while others were
#ifndef DUNEBOX_SANDBOX_WORKER_TURNS_H_
#define DUNEBOX_SANDBOX_WORKER_TURNS_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "absl/functional/function_ref.h"

namespace dunebox::worker {

class Turns {
 public:
  // From its making on to its end. `must_stop` is asked every some milliseconds while it waits.
  class Turn {
   public:
    Turn(Turns& turns, absl::FunctionRef<bool()> must_stop)
        : turns_(turns), is_mine_(turns.Wait(must_stop)) {}
    ~Turn() {
      if (is_mine_) turns_.Pass();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    bool is_mine() const { return is_mine_; }

   private:
    Turns& turns_;
    const bool is_mine_;
  };

 private:
  struct Waiter {
    std::condition_variable woken;
    bool is_next = false;
  };
  static constexpr auto kLook = std::chrono::milliseconds(20);

  bool Wait(absl::FunctionRef<bool()> must_stop) {
    std::unique_lock lock(mutex_);
    if (!is_taken_) {
      is_taken_ = true;
      return true;
    }
    Waiter self;
    waiters_.push_back(&self);
    while (!self.is_next) {
      self.woken.wait_for(lock, kLook);
      if (self.is_next || !must_stop()) continue;
      std::erase(waiters_, &self);
      return false;
    }
    return true;
  }

  // It stays taken where somebody waits: by him.
  void Pass() {
    const std::lock_guard lock(mutex_);
    if (waiters_.empty()) {
      is_taken_ = false;
      return;
    }
    Waiter& next = *waiters_.front();
    waiters_.pop_front();
    next.is_next = true;
    next.woken.notify_one();
  }

  std::mutex mutex_;  // guards what follows
  bool is_taken_ = false;
  std::deque<Waiter*> waiters_;
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_TURNS_H_
