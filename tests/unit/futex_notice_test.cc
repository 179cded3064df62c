// Which futex calls an engine has to know of before it says that nobody waits.
#include "runtime/process/futex_notice.h"

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include <vector>

namespace dunebox::process {
namespace {

using runtime::FutexUse;

std::optional<FutexUse> UseOf(std::uint64_t operation, std::uint64_t number = SYS_futex) {
  return FutexUseOf({.number = number, .arguments = {0x1000, operation, 0, 0, 0, 0}});
}

TEST(FutexNotice, WaitsAreCountedWakesAreNotAndTheRestIsIrregular) {
  for (const std::uint64_t flags : {0, FUTEX_PRIVATE_FLAG, FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME}) {
    for (const std::uint64_t operation : {FUTEX_WAIT, FUTEX_WAIT_BITSET}) {
      EXPECT_EQ(UseOf(operation | flags), FutexUse::kWait);
    }
    for (const std::uint64_t operation : {FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP}) {
      EXPECT_EQ(UseOf(operation | flags), std::nullopt);
    }
    for (const std::uint64_t operation :
         {FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_WAIT_REQUEUE_PI,
          FUTEX_CMP_REQUEUE_PI, 99}) {
      EXPECT_EQ(UseOf(operation | flags), FutexUse::kIrregular);
    }
  }
  EXPECT_EQ(UseOf(0, 449), FutexUse::kIrregular);  // futex_waitv
  EXPECT_EQ(UseOf(0, SYS_read), std::nullopt);
}

// Has nothing but a memory of what it was told.
class ToldEngine final : public runtime::EngineThread {
 public:
  explicit ToldEngine(bool answers) : answers_(answers) {}
  runtime::Exit Run(runtime::Registers&) override { return runtime::Interrupted{}; }
  void Kick() override {}
  void Unkick() override {}
  std::size_t extended_state_size() const override { return 0; }
  absl::Status SaveExtendedState(std::span<std::byte>) override { return absl::OkStatus(); }
  absl::Status LoadExtendedState(std::span<const std::byte>) override { return absl::OkStatus(); }
  std::uint64_t extended_features() const override { return 0; }
  bool uses_known_answers() const override { return answers_; }
  void BeginFutex(FutexUse, std::uint64_t word) override { told.push_back(word); }
  void EndFutex(FutexUse, std::uint64_t word) override { told.push_back(word + 1); }
  std::vector<std::uint64_t> told;

 private:
  const bool answers_;
};

TEST(FutexNotice, TellsBeforeAndAfterTheCall) {
  const hostcalls::Request wait{.number = SYS_futex, .arguments = {0x1000, FUTEX_WAIT}};
  ToldEngine engine(/*answers=*/true);
  {
    const FutexNotice notice(engine, wait);
    EXPECT_EQ(engine.told, std::vector<std::uint64_t>({0x1000}));
  }
  EXPECT_EQ(engine.told, std::vector<std::uint64_t>({0x1000, 0x1001}));
  ToldEngine other(/*answers=*/false);
  { const FutexNotice notice(other, wait); }
  EXPECT_TRUE(other.told.empty());
}

}  // namespace
}  // namespace dunebox::process
