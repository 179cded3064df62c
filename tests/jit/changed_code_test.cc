// Code that is another one by the time somebody looks again.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "tests/jit/arena.h"
#include "tests/jit/emitted.h"
#include "tests/jit/machine.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kBreakpoint = 3, kInvalidOpcode = 6, kHalted = 13;

class ChangedCode : public testing::Test {
 protected:
  void SetUp() override {
    arena_ = Arena::Map(kLayouts[0]);
    if (arena_ == nullptr) GTEST_SKIP() << "the addresses are taken";
    // Nobody tells the translator.
    arena_->set_is_watched(false);
    runner_ = std::make_unique<Runner>(*arena_, Runner::Options{});
  }

  void Put(std::string_view code) { arena_->WriteCode(arena_->code(), FromHex(code)); }

  std::uint64_t Run() {
    Machine machine;
    Random random(1);
    Randomize(random, machine);
    machine.rflags = 0x202;
    machine.gpr[kRsp] = arena_->stack_top() - 0x100;
    machine.rip = arena_->code();
    return runner_->RunTranslated(machine).vector;
  }

  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Runner> runner_;
};

// What the decoder knows of it is that it is none.
TEST_F(ChangedCode, BehindTheFirstByteOfWhatIsNoInstructionIsSeen) {
  Put("f3 48 0f ae e8 f4");  // incsspq rax, which nobody has
  EXPECT_EQ(Run(), kInvalidOpcode);
  Put("f3 0f 1e fa f4");  // endbr64
  EXPECT_EQ(Run(), kHalted);
  EXPECT_EQ(Run(), kHalted);
  Put("f3 48 0f ae e8 f4");
  EXPECT_EQ(Run(), kInvalidOpcode);
}

// Code that checks itself does so for as long as it has to, which is asked now and then: it is not made anew when it
// must go on so, and it is soon when it need not.
TEST_F(ChangedCode, NeedNotCheckItselfForEver) {
  Put("b9 50 c3 00 00 ff c9 75 fc f4");  // mov ecx, 50000; 1: dec ecx; jnz 1b; hlt
  const auto stale = [&] {
    return runner_->translator().statistics().exits[static_cast<std::size_t>(ExitReason::kStale)];
  };
  const auto blocks = [&] { return runner_->translator().statistics().cache.blocks; };
  EXPECT_EQ(Run(), kHalted);
  const std::uint64_t made = blocks();
  EXPECT_GE(stale(), 5U);
  EXPECT_EQ(Run(), kHalted);
  EXPECT_EQ(blocks(), made);

  arena_->set_is_watched(true);
  EXPECT_EQ(Run(), kHalted);
  const std::uint64_t asked = stale();
  EXPECT_GT(blocks(), made);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Run(), kHalted);
  EXPECT_EQ(stale(), asked);
}

// As a debugger or a tracer in the program itself has it: one byte goes to and fro while another thread runs there.
TEST_F(ChangedCode, IsABreakpointOrNoneAndNothingElse) {
  constexpr unsigned kRuns = 30000;
  Put("90 f4");
  std::atomic<bool> is_over{false};
  std::thread patcher([&] {
    while (!is_over.load(std::memory_order_relaxed)) {
      for (const std::uint8_t byte : {std::uint8_t{0xcc}, std::uint8_t{0x90}}) {
        arena_->WriteCode(arena_->code(), std::vector<std::uint8_t>{byte});
      }
    }
  });
  for (unsigned i = 0; i < kRuns; ++i) {
    const std::uint64_t vector = Run();
    EXPECT_TRUE(vector == kBreakpoint || vector == kHalted) << vector;
    if (vector != kBreakpoint && vector != kHalted) break;
  }
  is_over.store(true, std::memory_order_relaxed);
  patcher.join();
}

}  // namespace
}  // namespace dunebox::jit
