// A number that one thread counts up and any thread may read at any time. Costs what a plain one
// does.
#ifndef DUNEBOX_HOSTCALLS_COUNTER_H_
#define DUNEBOX_HOSTCALLS_COUNTER_H_

#include <atomic>
#include <cstdint>

namespace dunebox {

class Counter {
 public:
  // By the owner only.
  void Add(std::uint64_t more = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  void Reset() { value_.store(0, std::memory_order_relaxed); }
  std::uint64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace dunebox

#endif  // DUNEBOX_HOSTCALLS_COUNTER_H_
