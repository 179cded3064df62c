#include <gmock/gmock.h>
#include <sys/mman.h>

#include <string_view>

#include "libdune/software/page_marks.h"
#include "libdune/software/process_maps.h"
#include "libdune/software/range_set.h"

namespace dune::software {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Range Pages(std::uintptr_t first, std::size_t count) {
  return {first * kPageSize, count * kPageSize};
}

TEST(RangeSet, NeighboursBecomeOne) {
  RangeSet set;
  set.Add(Pages(10, 2));
  set.Add(Pages(20, 2));
  set.Add(Pages(12, 3));
  EXPECT_THAT(set.ranges(), ElementsAre(Pages(10, 5), Pages(20, 2)));
  set.Add(Pages(9, 20));
  EXPECT_THAT(set.ranges(), ElementsAre(Pages(9, 20)));
}

TEST(RangeSet, WhatIsRemovedMayLieInTheMiddle) {
  RangeSet set;
  set.Add(Pages(10, 10));
  set.Remove(Pages(12, 3));
  EXPECT_THAT(set.ranges(), ElementsAre(Pages(10, 2), Pages(15, 5)));
  EXPECT_TRUE(set.Covers(Pages(15, 5)));
  EXPECT_FALSE(set.Covers(Pages(11, 2)));
  EXPECT_FALSE(set.Covers(Pages(9, 2)));
  set.Remove(Pages(0, 100));
  EXPECT_THAT(set.ranges(), IsEmpty());
}

TEST(PageMarks, RunsEndWhereTheMarkChanges) {
  PageMarks marks;
  constexpr std::uintptr_t kFirst = (std::uintptr_t{3} << 18) - 2;  // two pages below a GiB's end
  ASSERT_TRUE(marks.Reserve(Pages(kFirst, 4)).ok());
  marks.Set(Pages(kFirst + 1, 2), 7);
  std::vector<std::pair<Range, int>> runs;
  marks.ForEachRun(Pages(kFirst, 4),
                   [&](Range run, PageMark mark) { runs.emplace_back(run, mark); });
  EXPECT_THAT(runs, ElementsAre(std::pair(Pages(kFirst, 1), 0), std::pair(Pages(kFirst + 1, 1), 7),
                                std::pair(Pages(kFirst + 2, 1), 7),
                                std::pair(Pages(kFirst + 3, 1), 0)));
  EXPECT_EQ(marks.Get((kFirst + 2) * kPageSize + 100), 7);
}

TEST(PageMarks, TheUserHalfIsAll) {
  PageMarks marks;
  EXPECT_EQ(marks.Get(~std::uintptr_t{0}), 0);
  EXPECT_TRUE(marks.Reserve(Pages((std::uintptr_t{1} << 35) - 1, 1)).ok());
  EXPECT_TRUE(absl::IsOutOfRange(marks.Reserve(Pages((std::uintptr_t{1} << 35) - 1, 2))));
}

std::optional<Area> Parse(std::string_view line) {
  return ParseMapsLine(line.data(), line.data() + line.size());
}

TEST(ProcessMaps, LinesOfTheTextAreUnderstood) {
  const std::optional<Area> area =
      Parse("7f0000001000-7f0000003000 r-xp 00000000 08:01 123 /usr/lib/x y.so");
  ASSERT_TRUE(area.has_value());
  EXPECT_EQ(area->range, (Range{0x7f0000001000, 0x2000}));
  EXPECT_EQ(area->rights, Rights::kReadExecute);
  EXPECT_EQ(Parse("1000-2000 ---p 0")->rights, Rights::kNone);
  for (const std::string_view bad : {"", "1000", "1000-", "1000-2000", "1000-2000 rw", "2000-1000 rw-p 0",
                                     "zz-10 rw-p 0"}) {
    EXPECT_FALSE(Parse(bad).has_value()) << bad;
  }
}

// The question and the text have the same answers.
TEST(ProcessMaps, TheTextSaysWhatTheQuestionSays) {
  ProcessMaps asked;
  ASSERT_TRUE(asked.Reopen().ok());
  std::uintptr_t address = 0;
  int count = 0;
  MapsText text;
  while (const std::optional<Area> area = text.FindAbove(address)) {
    if (area->range.begin >= std::uintptr_t{1} << 47) break;  // the vsyscall page is in the text alone
    const std::optional<Area> same = asked.FindAtOrAbove(address);
    ASSERT_TRUE(same.has_value());
    EXPECT_EQ(same->range, area->range);
    EXPECT_EQ(same->rights, area->rights);
    address = area->range.end();
    ++count;
  }
  EXPECT_GT(count, 5);
}

}  // namespace
}  // namespace dune::software
