// The statistics of a program are one JSON line that fits a pipe, however many calls it made.
#include "runtime/process/program_statistics.h"

#include <gtest/gtest.h>
#include <limits.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace dunebox::process {
namespace {

using hostcalls::AllRows;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::FindRow;
using nlohmann::json;

// Statistics ask nothing of the caller.
struct TestProcess : hostcalls::ProcessView {
  std::string executable_path() const override { return ""; }
  std::string FormatMaps() const override { return ""; }
};
struct TestCaller : Caller {
  TestCaller(const hostcalls::GuestMemory& guest_memory, const hostcalls::ProcessView& process_view)
      : Caller(guest_memory, process_view, reinterpret_cast<hostcalls::VirtualLimits&>(no_limits),
               {1 << 20, 1}) {}
  char no_limits = 0;
};

class ProgramStatisticsTest : public ::testing::Test {
 protected:
  void Make(std::uint64_t number, hostcalls::SyscallResult result) {
    statistics_.OnEnter(caller_, FindRow(number), {number, {}});
    statistics_.OnExit(caller_, FindRow(number), {number, {}}, result);
  }

  const hostcalls::GuestMemory memory_{{.base = 0, .lowest = 0x1'0000, .limit = 0x2'0000}};
  TestProcess process_;
  TestCaller caller_{memory_, process_};
  ProgramStatistics statistics_;
};

TEST_F(ProgramStatisticsTest, CallsAreCountedByRouteAndName) {
  Make(FindRow("read")->number, hostcalls::kSuccess);
  Make(FindRow("read")->number, Errno{EBADF});
  Make(FindRow("mmap")->number, hostcalls::SyscallResult::Restart());
  Make(0x1ff, Errno{ENOSYS});
  const json line = json::parse(statistics_.ToJson({.engine = "kvm", .program = "/\xff"}));
  EXPECT_EQ(line["program"], "/\\xff");
  EXPECT_EQ(line["calls"]["forwarded"], json({{"read", 2}}));
  EXPECT_EQ(line["calls"]["handled"], json({{"mmap", 1}}));
  EXPECT_EQ(line["unknown_calls"], 1);
  EXPECT_EQ(line["failed_calls"], 2);
  EXPECT_EQ(line["other_calls"], 0);
}

TEST_F(ProgramStatisticsTest, LimitsThatRefusedSomethingAreNamed) {
  const auto fd = hostcalls::LimitNotes::CreateFile({});
  ASSERT_TRUE(fd.ok());
  const auto notes = hostcalls::LimitNotes::Map(*fd);
  close(*fd);
  ASSERT_TRUE(notes.ok());
  const auto hit = [&] {
    return json::parse(statistics_.ToJson({.limits = notes->get()}))["limits_hit"];
  };
  EXPECT_EQ(json::parse(statistics_.ToJson({}))["limits_hit"], json::array());
  EXPECT_EQ(hit(), json::array());
  (*notes)->Note(hostcalls::RefusedLimit::kFileSize);
  (*notes)->Note(hostcalls::RefusedLimit::kMemory);
  EXPECT_EQ(hit(), json({"memory", "file-size"}));
}

TEST_F(ProgramStatisticsTest, AForkedChildStartsOverAndAVforkedOneDoesNot) {
  Make(FindRow("read")->number, hostcalls::kSuccess);
  const auto reads = [this] {
    return json::parse(statistics_.ToJson({}))["calls"]["forwarded"].value("read", 0);
  };
  statistics_.OnBegin(hostcalls::Beginning::kThread, "");
  statistics_.OnBegin(hostcalls::Beginning::kVforkedChild, "");
  EXPECT_EQ(reads(), 1);
  statistics_.OnBegin(hostcalls::Beginning::kForkedChild, "");
  EXPECT_EQ(reads(), 0);
}

TEST_F(ProgramStatisticsTest, EveryCallThereIsFitsOneWriteAndNoneIsLost) {
  for (const hostcalls::Row& row : AllRows()) Make(row.number, hostcalls::kSuccess);
  Make(FindRow("write")->number, hostcalls::kSuccess);
  const std::vector<runtime::Counter> counters(20, {"entries.signal_or_fault", 1'000'000'000});
  const std::string text = statistics_.ToJson(
      {.engine = "kvm (emulated)", .program = std::string(PATH_MAX, '\xff'), .counters = counters});
  EXPECT_LE(text.size(), std::size_t{PIPE_BUF});
  const json line = json::parse(text);
  EXPECT_EQ(line["calls"]["forwarded"]["write"], 2) << "the rarest are left out, not this one";
  std::uint64_t sum = line["other_calls"];
  EXPECT_GT(sum, 0u);
  for (const auto& route : line["calls"]) {
    for (const auto& count : route) sum += count.get<std::uint64_t>();
  }
  EXPECT_EQ(sum, AllRows().size() + 1);
}

}  // namespace
}  // namespace dunebox::process
