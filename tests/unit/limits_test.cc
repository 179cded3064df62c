#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <string_view>

#include "hostcalls/errors/message.h"
#include "runtime/limits/cpu_time.h"
#include "runtime/limits/environment.h"
#include "runtime/limits/session_end.h"
#include "runtime/limits/session_limits.h"
#include "runtime/limits/task_slots.h"

namespace dunebox::runtime {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;

TEST(SessionLimits, SizesAreWholeNumbersWithAUnit) {
  EXPECT_EQ(ParseSize("4096"), 4096u);
  EXPECT_EQ(ParseSize("3K"), 3072u);
  EXPECT_EQ(ParseSize("512M"), std::uint64_t{512} << 20);
  EXPECT_EQ(ParseSize("2G"), std::uint64_t{2} << 30);
  for (const char* wrong : {"", "K", "-1", "+1", "1.5G", "1k", "1 K", " 1", "1KB", "1T", "0x10",
                            "18446744073709551615", "9999999999G", "99999999999999999999"}) {
    EXPECT_FALSE(ParseSize(wrong)) << wrong;
  }
}

TEST(SessionLimits, DurationsNeedAUnit) {
  EXPECT_EQ(ParseDuration("250ms"), milliseconds(250));
  EXPECT_EQ(ParseDuration("10s"), milliseconds(10'000));
  EXPECT_EQ(ParseDuration("2m"), milliseconds(120'000));
  EXPECT_EQ(ParseDuration("1h"), milliseconds(3'600'000));
  for (const char* wrong : {"", "10", "s", "1.5s", "-1s", "1 s", "1S", "1us", "9999999999999999h"}) {
    EXPECT_FALSE(ParseDuration(wrong)) << wrong;
  }
}

TEST(SessionLimits, AreShownAsOneWouldWriteThem) {
  EXPECT_EQ(FormatDuration(milliseconds(10'000)), "10s");
  EXPECT_EQ(FormatDuration(milliseconds(1'500)), "1500ms");
  EXPECT_EQ(FormatSize(std::uint64_t{512} << 20), "512M");
  EXPECT_EQ(FormatSize(std::uint64_t{1} << 30), "1G");
  EXPECT_EQ(FormatSize(1000), "1000");
}

TEST(Environment, IsTheCallersWithChanges) {
  const std::vector<std::string> caller = {"A=1", "B=2", "ODD", "B2=3"};
  EXPECT_THAT(Changed(caller, {}), ElementsAre("A=1", "B=2", "ODD", "B2=3"));
  EXPECT_THAT(Changed(caller, {.entries = {"B=x", "C=", "NONE"}}),
              ElementsAre("A=1", "ODD", "B2=3", "B=x", "C="));
  EXPECT_THAT(Changed(caller, {.clear = true}), ElementsAre());
  EXPECT_THAT(Changed(caller, {.clear = true, .entries = {"B", "A=2", "A"}}),
              ElementsAre("B=2", "A=1"));
}

TEST(SessionEnd, IsOneLineOfJsonAndOneForTheUser) {
  const SessionLimits limits{.wall_time = milliseconds(1'000), .cpu_time = milliseconds(1)};
  EXPECT_EQ(StartedLine(7, "kvm", ""),
            "{\"event\":\"started\",\"pid\":7,\"engine\":\"kvm\",\"isolation\":null}\n");
  const SessionEnd cpu{.reason = EndReason::kCpuTime, .exit_status = 124};
  EXPECT_EQ(EndedLine(cpu, {}),
            "{\"event\":\"ended\",\"exit_status\":124,\"signal\":null,\"reason\":\"limit\","
            "\"limit\":\"cpu-time\",\"refused\":[]}\n");
  EXPECT_EQ(LimitFailure(cpu, limits).message(), "killed: CPU time limit 1ms reached");
  EXPECT_EQ(errors::NameOf(LimitFailure(cpu, limits), errors::Id::kInternal), errors::Id::kCpuTime);
  EXPECT_EQ(LimitFailure({.reason = EndReason::kWallTime}, limits).message(),
            "killed: wall time limit 1s reached");
  EXPECT_EQ(LimitFailure({.reason = EndReason::kSignaled, .signal = 9}, limits), absl::OkStatus());
  const SessionEnd memory{.reason = EndReason::kMemory, .exit_status = 137, .signal = 9};
  EXPECT_EQ(EndedLine(memory, {.memory = true, .file_size = true}),
            "{\"event\":\"ended\",\"exit_status\":137,\"signal\":9,\"reason\":\"limit\","
            "\"limit\":\"memory\",\"refused\":[\"memory\",\"file-size\"]}\n");
  EXPECT_EQ(LimitFailure(memory, {.memory = 512 << 20}).message(), "killed: memory limit 512M reached");
  const SessionEnd large{.reason = EndReason::kFileSize, .exit_status = 153, .signal = 25};
  EXPECT_EQ(LimitFailure(large, {.file_size = 1 << 20}).message(), "killed: file size limit 1M reached");
}

TEST(SessionEnd, SaysWhatWasRefused) {
  const SessionLimits limits{
      .memory = 512 << 20, .tasks = 8, .open_files = 64, .file_size = 1 << 20};
  EXPECT_EQ(RefusalMessage({}, limits), "");
  EXPECT_EQ(RefusalMessage({.tasks = true}, limits),
            "the program was refused more than its limits: processes and threads 8");
  EXPECT_EQ(RefusalMessage({.memory = true, .tasks = true, .open_files = true, .file_size = true},
                           limits),
            "the program was refused more than its limits: memory 512M, processes and threads 8, "
            "open files 64, file size 1M");
}

TEST(CpuTime, IsFoundBehindWhateverNameAProcessHas) {
  constexpr std::string_view kRest =
      "S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1 0 5555 1000000 200 18446744073709551615\n";
  for (const std::string_view name : {"sh", "a) S 9 9", "(((", ") ) )", ""}) {
    const auto times = ProcessTimes::Parse("12 (" + std::string(name) + ") " + std::string(kRest));
    ASSERT_TRUE(times) << name;
    EXPECT_EQ(times->own, 120u);
    EXPECT_EQ(times->reaped, 7u);
    EXPECT_EQ(times->start, 5555u);
  }
  EXPECT_FALSE(ProcessTimes::Parse(""));
  EXPECT_FALSE(ProcessTimes::Parse("12 (sh) S 1 2"));
}

class Slots : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = TaskSlots::CreateFile(2);
    ASSERT_TRUE(file.ok()) << file.status();
    auto slots = TaskSlots::Map(file->get());
    ASSERT_TRUE(slots.ok()) << slots.status();
    slots_ = *std::move(slots);
  }
  std::unique_ptr<TaskSlots> slots_;
};

TEST_F(Slots, AreNoMoreThanThereAre) {
  const auto first = slots_->Take();
  const auto second = slots_->Take();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(slots_->Take());
  slots_->GiveBack(*first);
  EXPECT_TRUE(slots_->Take());
}

TEST_F(Slots, AreKeptOnceConfirmed) {
  const auto claim = slots_->Take();
  ASSERT_TRUE(claim && slots_->Confirm(*claim));
  slots_->GiveBack(*claim);  // too late
  EXPECT_TRUE(slots_->Take());
  EXPECT_FALSE(slots_->Take());
  slots_->LeaveThread();
  EXPECT_TRUE(slots_->Take());
}

TEST_F(Slots, OfATaskThatWasKilledBeforeItConfirmedComeBackToo) {
  ASSERT_TRUE(slots_->Take());
  const auto claim = slots_->Take();
  ASSERT_TRUE(claim);
  const pid_t child = fork();
  if (child == 0) pause();
  slots_->HandOver(*claim, child);
  EXPECT_FALSE(slots_->Take());
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(slots_->Take());
}

TEST_F(Slots, AreConfirmedBeforeAndAfterTheyAreHandedOver) {
  for (const bool before : {true, false}) {
    const auto claim = slots_->Take();
    ASSERT_TRUE(claim);
    if (before) {
      EXPECT_TRUE(slots_->Confirm(*claim));
    }
    slots_->HandOver(*claim, gettid());
    EXPECT_TRUE(slots_->Confirm(*claim));
  }
  EXPECT_FALSE(slots_->Take());
}

TEST_F(Slots, ComeBackOnlyWhenTheProcessHasBeenWaitedFor) {
  ASSERT_TRUE(slots_->Take());
  const auto claim = slots_->Take();
  ASSERT_TRUE(claim);
  const pid_t child = fork();
  if (child == 0) _exit(slots_->Confirm(*claim) ? 0 : 1);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(slots_->Take()) << "a zombie counts";
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(slots_->Take());
}

TEST_F(Slots, OfADeadClaimerAreNotItsChilds) {
  ASSERT_TRUE(slots_->Take());
  // The claimer is another process, which ends before its child confirms.
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t claimer = fork();
  if (claimer == 0) {
    const auto claim = slots_->Take();
    _exit(claim && write(ends[1], &*claim, sizeof(*claim)) == sizeof(*claim) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(claimer, &status, 0), claimer);
  ASSERT_EQ(status, 0);
  TaskSlots::Claim claim{};
  ASSERT_EQ(read(ends[0], &claim, sizeof(claim)), ssize_t{sizeof(claim)});
  close(ends[0]);
  close(ends[1]);
  EXPECT_TRUE(slots_->Take());
  EXPECT_FALSE(slots_->Confirm(claim));
}

// Each the parent of the next; they end when this does.
class Generations {
 public:
  explicit Generations(int count) {
    int start[2];
    if (pipe(end_) != 0 || pipe(start) != 0) return;
    first_ = fork();
    if (first_ == 0) {
      close(end_[1]);
      Live(count - 1, start[1]);
    }
    close(start[1]);
    char byte;
    is_complete_ = read(start[0], &byte, 1) == 1;
    close(start[0]);
  }
  ~Generations() {
    close(end_[0]);
    close(end_[1]);
    if (first_ > 0) waitpid(first_, nullptr, 0);
  }
  Generations(const Generations&) = delete;
  Generations& operator=(const Generations&) = delete;
  // Is the last one there, and has used some time?
  bool is_complete() const { return is_complete_; }

 private:
  [[noreturn]] void Live(int below, int start) const {
    char byte = 0;
    const pid_t child = below == 0 ? 0 : fork();
    if (below != 0 && child == 0) Live(below - 1, start);
    if (below == 0) {
      while (clock() < CLOCKS_PER_SEC / 10) continue;
      if (write(start, &byte, 1) != 1) _exit(1);
    }
    close(start);
    if (read(end_[0], &byte, 1) != 0) _exit(1);
    if (below != 0) waitpid(child, nullptr, 0);
    _exit(0);
  }

  int end_[2] = {-1, -1};
  pid_t first_ = -1;
  bool is_complete_ = false;
};

TEST(TreeCpuTime, NeedsNoStackForGenerations) {
  const Generations chain(200);
  ASSERT_TRUE(chain.is_complete());
  milliseconds seen{0};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, std::size_t{48} << 10);
  pthread_t reader;
  const auto read_time = [](void* result) -> void* {
    *static_cast<milliseconds*>(result) = TreeCpuTime().Read();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&reader, &attributes, read_time, &seen), 0);
  pthread_attr_destroy(&attributes);
  ASSERT_EQ(pthread_join(reader, nullptr), 0);
  EXPECT_GE(seen, milliseconds(90));
}

}  // namespace
}  // namespace dunebox::runtime
