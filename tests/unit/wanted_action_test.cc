#include "sandbox/plugin/wanted_action.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace dunebox::plugin {
namespace {

using signals::KernelAction;

KernelAction AllOf(std::uint64_t value) {
  return {.handler = value, .flags = value, .restorer = value, .mask = value};
}

TEST(WantedAction, IsNothingUntilItIsSetAndWhenItIsCleared) {
  WantedAction wanted;
  EXPECT_FALSE(wanted.Get());
  wanted.Set(AllOf(7));
  ASSERT_TRUE(wanted.Get());
  EXPECT_EQ(wanted.Get()->mask, 7u);
  wanted.Set(AllOf(8));
  EXPECT_EQ(wanted.Get()->handler, 8u);
  wanted.Clear();
  EXPECT_FALSE(wanted.Get());
}

TEST(WantedAction, IsReadWholeWhileItChanges) {
  WantedAction wanted;
  std::atomic<bool> is_over{false};
  std::atomic<std::uint64_t> seen{0};
  std::thread reader([&] {
    while (!is_over) {
      const auto action = wanted.Get();
      if (!action) continue;
      seen = action->handler;
      if (action->flags != action->handler || action->restorer != action->handler ||
          action->mask != action->handler) {
        ADD_FAILURE() << "parts of two";
        return;
      }
    }
  });
  constexpr std::uint64_t kChanges = 2'000'000;
  for (std::uint64_t value = 1; value <= kChanges; ++value) {
    if (value % 1024 == 0) wanted.Clear();
    wanted.Set(AllOf(value));
  }
  while (seen != kChanges && !testing::Test::HasFailure()) std::this_thread::yield();
  is_over = true;
  reader.join();
}

}  // namespace
}  // namespace dunebox::plugin
