#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "sandbox/statistics/report.h"
#include "sandbox/statistics/summary.h"

namespace dunebox::statistics {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

constexpr std::string_view kLines =
    R"({"pid":7,"program":"/bin/sh","engine":"jit","user_us":10,"system_us":1,"minor_faults":3,"major_faults":1,)"
    R"("peak_memory_kib":100,"limits_hit":["pids"],"signals":2,"calls":{"forwarded":{"read":4},"handled":{"mmap":1},)"
    R"("denied":{},"absent":{}},"other_calls":5,"unknown_calls":0,"failed_calls":1,"counters":{"blocks":20}})"
    "\n"
    R"({"pid":7,"program":"/bin/ls","engine":"jit","user_us":5,"system_us":0,"minor_faults":1,"major_faults":0,)"
    R"("peak_memory_kib":400,"limits_hit":[],"signals":0,"calls":{"forwarded":{"read":2,"write":1}},)"
    R"("other_calls":0,"unknown_calls":2,"failed_calls":0,"counters":{"blocks":1,"links":3}})"
    "\n"
    R"({"pid":8,"engine":"jit","user_us":1,"system_us":1,"peak_memory_kib":300})"
    "\n";

TEST(Statistics, LinesAddUp) {
  const absl::StatusOr<Summary> summary = Summarize(kLines);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->engine, "jit");
  EXPECT_EQ(summary->programs, 3);
  EXPECT_EQ(summary->processes, 2);
  EXPECT_EQ(summary->user_us, 16);
  EXPECT_EQ(summary->system_us, 2);
  EXPECT_EQ(summary->minor_faults, 4);
  EXPECT_EQ(summary->peak_memory_kib, 400);
  EXPECT_EQ(summary->signals, 2);
  EXPECT_EQ(summary->CallsOf("forwarded"), 7);
  EXPECT_EQ(summary->CallsOf("absent"), 2);  // without a row
  EXPECT_EQ(summary->AllCalls(), 7 + 1 + 5 + 2);
  EXPECT_THAT(summary->counters, ElementsAre(Pair("blocks", 21), Pair("links", 3)));
  EXPECT_THAT(summary->limits_hit, ElementsAre("pids"));
}

TEST(Statistics, NoLineIsASessionOfWhichNothingIsKnown) {
  const absl::StatusOr<Summary> summary = Summarize("");
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->programs, 0);
  EXPECT_THAT(FormatTable(*summary, {.command = "x"}), HasSubstr("engine unknown"));
}

TEST(Statistics, WhatIsNoLineIsRefusedWithItsNumber) {
  EXPECT_THAT(std::string(Summarize("{}\n[1]\n").status().message()), HasSubstr("statistics:2: an object"));
  EXPECT_THAT(std::string(Summarize("{}\n{").status().message()), HasSubstr("statistics:2: a line is cut short"));
  EXPECT_FALSE(Summarize("{\"pid\":\n").ok());
}

TEST(Statistics, ValuesOfAnotherTypeCountNothing) {
  const absl::StatusOr<Summary> summary = Summarize(R"({"pid":-1,"signals":"many","calls":[1],"counters":{"blocks":-3}})"
                                                    "\n");
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->signals, 0);
  EXPECT_EQ(summary->AllCalls(), 0);
  EXPECT_TRUE(summary->counters.empty());
}

TEST(Statistics, TheTableSaysWhatTheLinesSaid) {
  const std::string table = FormatTable(*Summarize(kLines), {.command = "sh -c ls", .elapsed_ns = 1'234'567'890});
  EXPECT_THAT(table, HasSubstr("Statistics of 'sh -c ls', engine jit"));
  EXPECT_THAT(table, HasSubstr("1234.6 ms  elapsed"));
  EXPECT_THAT(table, HasSubstr("15  system calls  (7 forwarded, 1 handled, 0 denied, 2 absent; 1 failed)"));
  EXPECT_THAT(table, HasSubstr("read 6, other 5, unknown 2, mmap 1, write 1"));
  EXPECT_THAT(table, HasSubstr("Limits that refused something: pids"));
}

TEST(Statistics, LargeNumbersAreGrouped) {
  Summary summary;
  summary.minor_faults = 1234567;
  summary.signals = 999;
  const std::string table = FormatTable(summary, {});
  EXPECT_THAT(table, HasSubstr("1,234,567  page faults"));
  EXPECT_THAT(table, HasSubstr(" 999  signals"));
}

TEST(Statistics, TheJsonFormIsOneObjectWhateverTheCommandIs) {
  const std::string text = FormatJson(*Summarize(kLines), {.command = "a\"b\n\xff", .exit_status = 3});
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  const nlohmann::json object = nlohmann::json::parse(text);
  EXPECT_EQ(object["exit_status"], 3);
  EXPECT_EQ(object["calls"]["forwarded"]["read"], 6);
}

TEST(Statistics, MetricsAreUtf8WhateverTheCommandIs) {
  const std::string metrics = FormatMetrics(*Summarize(kLines), {.command = "caf\xc3\xa9 \xff\xc3", .exit_status = 0});
  EXPECT_THAT(metrics, HasSubstr("{command=\"caf\xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\"} 0\n"));
}

TEST(Statistics, MetricsEscapeTheirLabels) {
  const std::string metrics = FormatMetrics(*Summarize(kLines), {.command = "a \"b\"\\\n", .exit_status = 2});
  EXPECT_THAT(metrics, HasSubstr("dunebox_exit_status{command=\"a \\\"b\\\"\\\\\\n\"} 2\n"));
  EXPECT_THAT(metrics, HasSubstr("# TYPE dunebox_system_calls_total counter\n"));
  EXPECT_THAT(metrics, HasSubstr(",route=\"forwarded\",name=\"read\"} 6\n"));
  EXPECT_THAT(metrics, HasSubstr(",limit=\"pids\"} 1\n"));
  EXPECT_THAT(metrics, Not(HasSubstr("\n\n")));
}

}  // namespace
}  // namespace dunebox::statistics
