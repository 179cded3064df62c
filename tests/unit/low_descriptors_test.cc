#include "hostcalls/services/low_descriptors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <new>
#include <optional>
#include <thread>

namespace dunebox::hostcalls {
namespace {

using std::chrono::milliseconds;

TEST(LowDescriptors, AForkWaitsForWhoeverMakesOne) {
  LowDescriptors descriptors;
  std::atomic<bool> closed = false;
  std::atomic<bool> inside = false;
  std::thread maker([&] {
    const LowDescriptors::Window window(descriptors);
    inside = true;
    std::this_thread::sleep_for(milliseconds(20));
    closed = true;
  });
  while (!inside) std::this_thread::yield();
  descriptors.HoldForFork();
  EXPECT_TRUE(closed);
  descriptors.ReleaseAfterFork();
  maker.join();
}

TEST(LowDescriptors, NobodyMakesOneDuringAFork) {
  LowDescriptors descriptors;
  descriptors.HoldForFork();
  std::atomic<bool> inside = false;
  std::thread maker([&] {
    const LowDescriptors::Window window(descriptors);
    inside = true;
  });
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(inside);
  descriptors.ReleaseAfterFork();
  maker.join();
  EXPECT_TRUE(inside);
}

TEST(LowDescriptors, ABlockedOpenHoldsAForkUpForAMomentOnly) {
  LowDescriptors descriptors;
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  std::atomic<bool> inside = false;
  std::thread blocked([&] {
    const LowDescriptors::Window window(descriptors);
    inside = true;
    char byte = 0;
    EXPECT_EQ(read(pipe_ends[0], &byte, 1), 0);
  });
  while (!inside) std::this_thread::yield();
  descriptors.HoldForFork();  // returns
  descriptors.ReleaseAfterFork();
  close(pipe_ends[1]);
  blocked.join();
  close(pipe_ends[0]);
}

TEST(LowDescriptors, WindowsNestWhileAForkWaits) {
  LowDescriptors descriptors;
  std::atomic<bool> outer = false;
  std::thread maker([&] {
    const LowDescriptors::Window window(descriptors);
    outer = true;
    std::this_thread::sleep_for(milliseconds(20));
    const LowDescriptors::Window nested(descriptors);
  });
  while (!outer) std::this_thread::yield();
  const auto before = std::chrono::steady_clock::now();
  descriptors.HoldForFork();
  EXPECT_LT(std::chrono::steady_clock::now() - before, LowDescriptors::kLongestWait);
  descriptors.ReleaseAfterFork();
  maker.join();
}

TEST(LowDescriptors, ASecretWaitsForUsesAndUsesForIt) {
  LowDescriptors descriptors;
  LowDescriptors of_vforked_child(OfVforkedChild(), descriptors);
  std::atomic<bool> made = false;
  std::optional<LowDescriptors::Use> use(std::in_place, of_vforked_child);
  std::thread maker([&] {
    const LowDescriptors::Secret secret(descriptors);
    made = true;
    std::this_thread::sleep_for(milliseconds(20));
    made = false;
  });
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(made);
  use.reset();
  while (!made) std::this_thread::yield();
  const LowDescriptors::Use next(descriptors);
  EXPECT_FALSE(made);
  maker.join();
}

TEST(LowDescriptors, AForkWaitsForASecretAndNotForAUse) {
  LowDescriptors descriptors;
  std::optional<LowDescriptors::Use> use(std::in_place, descriptors);
  std::atomic<bool> made = false;
  std::thread maker([&] {
    const LowDescriptors::Secret secret(descriptors);
    made = true;
  });
  descriptors.HoldForFork();  // returns
  use.reset();
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(made);
  descriptors.ReleaseAfterFork();
  maker.join();

  std::atomic<bool> inside = false;
  std::atomic<bool> closed = false;
  std::thread slow_maker([&] {
    const LowDescriptors::Secret secret(descriptors);
    inside = true;
    std::this_thread::sleep_for(2 * LowDescriptors::kLongestWait);
    closed = true;
  });
  while (!inside) std::this_thread::yield();
  descriptors.HoldForFork();
  EXPECT_TRUE(closed);
  descriptors.ReleaseAfterFork();
  slow_maker.join();
}

TEST(LowDescriptors, AChildThatIsKilledInAUseHoldsNobodyUp) {
  LowDescriptors descriptors;
  {
    LowDescriptors of_vforked_child(OfVforkedChild(), descriptors);
    alignas(LowDescriptors::Use) std::byte memory[sizeof(LowDescriptors::Use)];
    new (memory) LowDescriptors::Use(of_vforked_child);  // never ends
    of_vforked_child.HoldForFork();
  }
  const LowDescriptors::Secret secret(descriptors);
}

}  // namespace
}  // namespace dunebox::hostcalls
