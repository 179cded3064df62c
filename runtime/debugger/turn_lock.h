// A lock that is given in the order in which it was asked for, so that of threads which take it again
// and again each gets its turn.
//
//   const std::lock_guard turn(turns);
#ifndef DUNEBOX_RUNTIME_DEBUGGER_TURN_LOCK_H_
#define DUNEBOX_RUNTIME_DEBUGGER_TURN_LOCK_H_

#include <atomic>
#include <cstdint>

namespace dunebox::debugger {

class TurnLock {
 public:
  void lock() {
    const std::uint32_t mine = next_.fetch_add(1);
    for (std::uint32_t now = serving_; now != mine; now = serving_) serving_.wait(now);
  }
  void unlock() {
    serving_.fetch_add(1);
    serving_.notify_all();
  }

 private:
  std::atomic<std::uint32_t> next_{0}, serving_{0};
};

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_TURN_LOCK_H_
