#include "runtime/memory/stop_pool.h"

#include <sched.h>
#include <time.h>

namespace dunebox::memory {
namespace {

constexpr unsigned kYields = 1000;
constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 100'000};
constexpr unsigned kNaps = 600'000;
constexpr unsigned kTries = 64;

}  // namespace

bool StopPool(abi::MemoryPool& pool) {
  for (unsigned round = 0; round < kYields + kNaps; ++round) {
    const abi::PoolLock lock(pool, kTries);
    if (lock.held()) {
      __atomic_store_n(&pool.pages, 0, __ATOMIC_SEQ_CST);
      return true;
    }
    round < kYields ? sched_yield() : nanosleep(&kNap, nullptr);
  }
  return false;
}

}  // namespace dunebox::memory
