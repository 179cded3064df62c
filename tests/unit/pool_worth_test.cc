// When ring 0 is lent the memory pool: readily where that saves exits, and never not at all.
#include <gtest/gtest.h>

#include "runtime/process/pool_use.h"

namespace dunebox::process {
namespace {

// Calls of the kind until it is opened; with none but those, or with others after each that end the row.
int CallsUntilOpen(PoolWorth& worth, bool in_a_row) {
  for (int calls = 1; calls < 10'000; ++calls) {
    worth.OnMiss();
    if (!worth.IsWanted(in_a_row ? static_cast<unsigned>(calls) : 1)) continue;
    worth.OnOpen();
    return calls;
  }
  return 0;
}

TEST(PoolWorth, TakesLongerRowsAfterOpeningsThatWereForLittle) {
  PoolWorth worth;
  for (const int needed : {2, 4, 8, 16, 32, 64, 128, 256, 256, 256}) {
    EXPECT_EQ(CallsUntilOpen(worth, /*in_a_row=*/true), needed);
    worth.OnClose(/*answered=*/3);
  }
  EXPECT_EQ(CallsUntilOpen(worth, /*in_a_row=*/true), 256);
  worth.OnClose(/*answered=*/4);
  EXPECT_EQ(CallsUntilOpen(worth, /*in_a_row=*/true), 2);
}

// A program that often does something else between would never have a long row again.
TEST(PoolWorth, WithoutRowsItGetsAnotherChanceAllTheSame) {
  PoolWorth worth;
  EXPECT_EQ(CallsUntilOpen(worth, /*in_a_row=*/false), 8);
  for (int bad = 0; bad < 20; ++bad) worth.OnClose(/*answered=*/0);
  EXPECT_EQ(CallsUntilOpen(worth, /*in_a_row=*/false), 1024);
  worth.OnClose(/*answered=*/100);
  EXPECT_EQ(CallsUntilOpen(worth, /*in_a_row=*/false), 8);
}

}  // namespace
}  // namespace dunebox::process
