// How denials are told, and how often.
#include "runtime/process/denial_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace dunebox::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

DenialText Example() {
  return {.process = 12,
          .program = "/usr/bin/python3",
          .call = "openat(AT_FDCWD, \"/etc/shadow\", O_RDONLY)",
          .place = "0x7f12a4d14a7e libc.so.6+0x114a7e",
          .action = "read",
          .object = "/etc/shadow",
          .rule = "none allows it",
          .cure = "--ro /etc/shadow"};
}

TEST(DenialBlock, SaysWhatWhereWhyAndWhatWouldAllowIt) {
  EXPECT_EQ(DenialBlock(Example(), 0),
            "dunebox: denied: python3 (pid 12) openat(AT_FDCWD, \"/etc/shadow\", O_RDONLY) [E0210]\n"
            "  read /etc/shadow; rule: none allows it\n"
            "  at 0x7f12a4d14a7e libc.so.6+0x114a7e\n"
            "  to allow it: --ro /etc/shadow\n");
}

TEST(DenialBlock, SaysHowManyWereLeftOutAndThatAnAuditAllows) {
  DenialText denial = Example();
  denial.audited = true;
  const std::string block = DenialBlock(denial, 7);
  EXPECT_TRUE(
      block.starts_with("dunebox: denied: 7 more, not told one by one [E0210]\n"
                        "dunebox: audit: would deny: python3 (pid 12) openat("))
      << block;
}

TEST(DenialBlock, SendsNoBytesOfTheProgramsToTheTerminal) {
  DenialText denial = Example();
  denial.program = "/tmp/\x1b[2J";
  denial.object = "/tmp/a\nb\x9b";
  denial.cure = "--ro /tmp/a\nb\x9b";
  denial.place = "0x1 \x07+0x2";
  for (const char byte : DenialBlock(denial, 0)) {
    EXPECT_TRUE(byte == '\n' || (byte >= 32 && byte < 127)) << int{byte};
  }
  EXPECT_EQ(std::ranges::count(DenialBlock(denial, 0), '\n'), 4);
}

TEST(DenialLine, IsOneObject) {
  EXPECT_EQ(DenialLine(Example()),
            R"x({"pid":12,"program":"/usr/bin/python3","call":"openat","action":"read",)x"
            R"x("object":"/etc/shadow",)x"
            R"x("arguments":"openat(AT_FDCWD, \"/etc/shadow\", O_RDONLY)",)x"
            R"x("rule":"none allows it","cure":"--ro /etc/shadow","audited":false})x"
            "\n");
}

TEST(RateLimit, TakesAFewAtOnceAndThenOneAnInterval) {
  RateLimit limit(3, milliseconds(250));
  const seconds start(100);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limit.Take(start)) << i;
  EXPECT_FALSE(limit.Take(start));
  EXPECT_FALSE(limit.Take(start + milliseconds(249)));
  EXPECT_TRUE(limit.Take(start + milliseconds(250)));
  EXPECT_FALSE(limit.Take(start + milliseconds(251)));
}

TEST(RateLimit, IsFullAgainAfterAPause) {
  RateLimit limit(3, milliseconds(250));
  while (limit.Take(seconds(100))) {
  }
  int taken = 0;
  while (limit.Take(seconds(200))) ++taken;
  EXPECT_EQ(taken, 3);
}

}  // namespace
}  // namespace dunebox::process
