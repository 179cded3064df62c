// Where the kernel finds what the runtime has copied. That the kernel may use it while everything
// else is shut is host_call_test's to show, where there are protection keys.
#include "hostcalls/memory/staging.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

namespace dunebox::hostcalls {
namespace {

TEST(Staging, WithoutKeysAnObjectStaysWhereItIs) {
  if (KeysInUse()) GTEST_SKIP() << "this process uses protection keys";
  Staging staging;
  StagingScope staged(staging);
  int value = 1;
  char text[] = "text";
  EXPECT_EQ(staged.Place(value), &value);
  EXPECT_EQ(staged.PlaceAll(std::span<char>(text)).data(), text);
}

TEST(Staging, PiecesAreApartAndAligned) {
  Staging staging;
  StagingScope staged(staging);
  std::byte* const first = staged.Take(3);
  std::byte* const second = staged.Take(40);
  EXPECT_GE(second, first + 3);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second) % alignof(std::max_align_t), 0u);
  std::memset(first, 1, 3);
  std::memset(second, 2, 40);
  EXPECT_EQ(first[2], std::byte{1});
}

TEST(Staging, TheEndOfAScopeGivesBackWhatItTookAndNoMore) {
  Staging staging;
  StagingScope outer(staging);
  std::byte* const kept = outer.Take(16);
  std::byte* taken = nullptr;
  {
    StagingScope inner(staging);
    taken = inner.Take(16);
    EXPECT_NE(taken, kept);
  }
  StagingScope next(staging);
  EXPECT_EQ(next.Take(16), taken);
}

TEST(Staging, WhatDoesNotFitHasPagesOfItsOwn) {
  Staging staging;
  StagingScope staged(staging);
  std::byte* const small = staged.Take(16);
  std::byte* const large = staged.Take(Staging::kSize);
  std::memset(large, 1, Staging::kSize);
  EXPECT_TRUE(large + Staging::kSize <= small || large >= small + Staging::kSize);
  // The room that is left is still there for others.
  std::byte* const rest = staged.Take(Staging::kSize - 16);
  EXPECT_EQ(rest, small + 16);
  std::memset(rest, 2, Staging::kSize - 16);
  EXPECT_EQ(large[0], std::byte{1});
  EXPECT_NE(staged.Take(1), nullptr);
}

}  // namespace
}  // namespace dunebox::hostcalls
