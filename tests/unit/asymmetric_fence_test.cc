#include "hostcalls/asymmetric_fence.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace dunebox {
namespace {

// Each of two threads writes its own word and reads the other's: one of them at least sees what the other has written.
TEST(AsymmetricFence, LetsOneOfTwoSeeTheOther) {
  PrepareAsymmetricFences();
  constexpr int kRounds = 500;
  std::atomic<int> light{0}, heavy{0}, round_of_light{0}, round_of_heavy{0};
  int seen_by_light = 0;
  std::thread other([&] {
    for (int round = 1; round <= kRounds; ++round) {
      while (round_of_heavy.load(std::memory_order_acquire) != round) {
        std::this_thread::yield();
      }
      light.store(round, std::memory_order_relaxed);
      LightFence();
      seen_by_light = heavy.load(std::memory_order_relaxed);
      round_of_light.store(round, std::memory_order_release);
    }
  });
  int missed = 0;
  for (int round = 1; round <= kRounds; ++round) {
    round_of_heavy.store(round, std::memory_order_release);
    heavy.store(round, std::memory_order_relaxed);
    HeavyFence();
    const int seen_by_heavy = light.load(std::memory_order_relaxed);
    while (round_of_light.load(std::memory_order_acquire) != round) std::this_thread::yield();
    if (seen_by_heavy != round && seen_by_light != round) ++missed;
  }
  other.join();
  EXPECT_EQ(missed, 0);
}

}  // namespace
}  // namespace dunebox
