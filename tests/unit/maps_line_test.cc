// Lines of /proc/self/maps, taken apart.
#include "runtime/maps_line.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/text_file.h"

namespace dunebox::runtime {
namespace {

TEST(MapsLine, HasAllFields) {
  constexpr char kText[] = "7f00452000-7f00453000 r-xp 00052000 fd:1f 173521      /usr/bin/a name with  spaces";
  const std::optional<MapsLine> line = ParseMapsLine(kText);
  ASSERT_TRUE(line);
  EXPECT_EQ(line->text, kText);
  EXPECT_EQ(line->start, 0x7f'0045'2000);
  EXPECT_EQ(line->end, 0x7f'0045'3000);
  EXPECT_EQ(line->rights, "r-xp");
  EXPECT_EQ(line->offset, 0x52'000);
  EXPECT_EQ(line->device, makedev(0xfd, 0x1f));
  EXPECT_EQ(line->inode, 173'521);
  EXPECT_EQ(line->name, "/usr/bin/a name with  spaces");
}

TEST(MapsLine, MayHaveNoName) {
  for (const char* text : {"1000-2000 rw-p 00000000 00:00 0 ", "1000-2000 rw-p 00000000 00:00 0"}) {
    const std::optional<MapsLine> line = ParseMapsLine(text);
    ASSERT_TRUE(line) << text;
    EXPECT_EQ(line->name, "") << text;
  }
}

TEST(MapsLine, IsNothingElse) {
  for (const char* text :
       {"", "damaged", "1000", "1000-", "1000-2000", "1000-2000 ", "1000-2000 r--p", "1000-2000 r--p 00000000",
        "1000-2000 r--p 00000000 08:02", "1000-2000 r--p 0000x000 08:02 9 /a", "1000-2000 r--p 00000000 0802 9 /a",
        "1000-2000 r- 00000000 08:02 9 /a", "1000 2000 r--p 00000000 08:02 9 /a", "-1000-2000 r--p 00000000 08:02 9 /a",
        "11112222333344445-2000 r--p 00000000 08:02 9 /a"}) {
    EXPECT_FALSE(ParseMapsLine(text)) << text;
  }
}

TEST(Maps, AreThoseLinesThatAreOne) {
  const std::vector<MapsLine> lines = ParseMaps(
      "1000-2000 rw-p 00000000 00:00 0 \ndamaged\n\n3000-4000 r--p 00000000 00:00 0          [vvar]");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines.front().start, 0x1000U);
  EXPECT_EQ(lines.back().name, "[vvar]");
  EXPECT_TRUE(ParseMaps("").empty());
}

TEST(Maps, OfThisProcessHaveItsMemory) {
  const auto text = ReadTextFile("/proc/self/maps");
  ASSERT_TRUE(text.ok()) << text.status();
  const std::vector<MapsLine> lines = ParseMaps(*text);
  EXPECT_EQ(static_cast<std::ptrdiff_t>(lines.size()), std::ranges::count(*text, '\n'));
  const auto has = [](const void* address) {
    return [address = reinterpret_cast<std::uint64_t>(address)](const MapsLine& line) {
      return line.start <= address && address < line.end;
    };
  };
  const auto stack = std::ranges::find_if(lines, has(&text));
  ASSERT_NE(stack, lines.end());
  EXPECT_EQ(stack->name, "[stack]");
  EXPECT_EQ(stack->rights, "rw-p");
  const auto code = std::ranges::find_if(lines, has(reinterpret_cast<const void*>(&ParseMaps)));
  ASSERT_NE(code, lines.end());
  EXPECT_EQ(code->rights, "r-xp");
  EXPECT_TRUE(code->name.ends_with("maps_line_test")) << code->text;
}

}  // namespace
}  // namespace dunebox::runtime
