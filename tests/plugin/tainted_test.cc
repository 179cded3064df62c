// What comes from a plugin is of no use before it has been checked, and the checks are right at
// their edges.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

using absl::StatusCode;

TEST(TaintedValues, AreWhatTheCheckAccepts) {
  const Tainted<int> seven(7);
  const absl::StatusOr<int> good = seven.Verify([](int value) { return value == 7; });
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, 7);
  EXPECT_EQ(seven.Verify([](int) { return false; }).status().code(), StatusCode::kOutOfRange);
}

TEST(TaintedValues, LieWithinTheRangeThatIncludesItsEnds) {
  const auto is_within = [](int value, int least, int most) {
    return Tainted<int>(value).Within(least, most).ok();
  };
  EXPECT_TRUE(is_within(1, 1, 3) && is_within(3, 1, 3) && is_within(INT_MIN, INT_MIN, INT_MAX));
  EXPECT_FALSE(is_within(0, 1, 3) || is_within(4, 1, 3) || is_within(2, 3, 1));
  EXPECT_FALSE(Tainted<unsigned>(~0u).Within(0u, ~0u - 1).ok());
  EXPECT_FALSE(Tainted<std::int64_t>(-1).Within<std::int64_t>(0, INT64_MAX).ok());
  // NaN is in no range.
  EXPECT_FALSE(
      Tainted<double>(std::numeric_limits<double>::quiet_NaN()).Within(-1e300, 1e300).ok());
}

struct LargeGap {
  char first;
  long second[3];
  short third;
};

// A structure may hold what the host's stack had there before.
TEST(LargeStructures, CrossTheWallWithoutWhatLiesBetweenTheirFields) {
  const auto callback = internal::CallbackOf<LargeGap()>::Make([] {
    LargeGap gap;
    std::memset(&gap, 0x5a, sizeof(gap));
    gap.first = 1, gap.third = 2;
    return gap;
  });
  internal::CallbackFrame frame{};
  callback.run(frame);
  ASSERT_EQ(frame.large_result.size(), sizeof(LargeGap));
  for (std::size_t i = 1; i < sizeof(LargeGap); ++i) {
    const bool is_field = (i >= 8 && i < 32) || (i >= 32 && i < 34);
    EXPECT_TRUE(is_field || frame.large_result[i] == std::byte{0}) << i;
  }
}

class TaintedPointers : public PluginTest {
 protected:
  void SetUp() override { Make(); }
  template <typename T>
  StatusCode Copied(std::uint64_t address, std::size_t count) {
    return sandbox->CopyIn(TaintedPtr<T>(address), count).status().code();
  }
};

FOR_ONE_AND_TWO_WALLS(TaintedPointers);

TEST_P(TaintedPointers, AreFollowedAsFarAsMemoryGoes) {
  auto memory = sandbox->Allocate<std::uint64_t>(512);
  ASSERT_TRUE(memory.ok());
  memory->span()[511] = 5;
  const std::uint64_t start = memory->guest().address();
  const auto copied = sandbox->CopyIn(memory->guest(), 512);
  ASSERT_TRUE(copied.ok());
  EXPECT_EQ(copied->back(), 5u);
  EXPECT_EQ(Copied<std::uint64_t>(start, 0), StatusCode::kOk);
  // Not aligned, as a plugin may have it.
  EXPECT_EQ(Copied<std::uint64_t>(start + 1, 511), StatusCode::kOk);
}

TEST_P(TaintedPointers, ThatLeaveTheWindowAreRefused) {
  constexpr std::uint64_t kEnd = 0x1'0000'0000;
  for (const std::uint64_t address : {kEnd - 1, kEnd, kEnd + 1, ~std::uint64_t{0}, kEnd - 4096,
                                      std::uint64_t{0}, std::uint64_t{0xffff}}) {
    EXPECT_EQ(Copied<char>(address, 1), StatusCode::kOutOfRange) << address;
    EXPECT_EQ(Copied<std::uint64_t>(address, 2), StatusCode::kOutOfRange) << address;
    EXPECT_EQ(sandbox->CopyOut(TaintedPtr<char>(address), std::span<const char>("x", 1)).code(),
              StatusCode::kOutOfRange);
    EXPECT_EQ(sandbox->CopyString(TaintedPtr<const char>(address), 10).status().code(),
              StatusCode::kOutOfRange);
  }
}

TEST_P(TaintedPointers, WithCountsThatOverflowAreRefused) {
  auto memory = sandbox->Allocate<char>(64);
  ASSERT_TRUE(memory.ok());
  const std::uint64_t start = memory->guest().address();
  for (const std::size_t count : {SIZE_MAX, SIZE_MAX / 8, SIZE_MAX / 8 + 2, std::size_t{1} << 61,
                                  std::size_t{1} << 40, (std::size_t{1} << 29) + 1}) {
    EXPECT_EQ(Copied<std::uint64_t>(start, count), StatusCode::kOutOfRange) << count;
  }
  for (const std::size_t count : {SIZE_MAX, SIZE_MAX / 8 + 1, std::size_t{1} << 30}) {
    EXPECT_EQ(sandbox->Allocate<std::uint64_t>(count).status().code(),
              StatusCode::kResourceExhausted);
  }
  // An address that arithmetic has taken round, to the lowest.
  const TaintedPtr<std::uint64_t> round = TaintedPtr<std::uint64_t>(start) + (-start / 8);
  ASSERT_TRUE(round.is_null());
  EXPECT_EQ(sandbox->CopyIn(round).status().code(), StatusCode::kOutOfRange);
}

TEST_P(TaintedPointers, LeaveTheOutputAloneWhereStringsDoNotEnd) {
  auto memory = sandbox->Allocate<char>(64);
  ASSERT_TRUE(memory.ok());
  std::memset(memory->span().data(), 'a', 64);
  EXPECT_EQ(sandbox->CopyString(memory->guest(), 63).status().code(), StatusCode::kOutOfRange);
  memory->span()[63] = '\0';
  const auto text = sandbox->CopyString(memory->guest(), 63);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->size(), 63u);
  EXPECT_FALSE(sandbox->CopyString(memory->guest(), 62).ok());
}

}  // namespace
}  // namespace dunebox
