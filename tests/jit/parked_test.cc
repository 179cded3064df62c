// Threads in the memory of others that have ended: what those knew of the code is good as long as the code is, and
// nothing else of them is there.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/jit/arena.h"
#include "tests/jit/emitted.h"
#include "tests/jit/machine.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kHalted = 13;
constexpr std::uint64_t kTarget = 0x100;  // behind the start of the code

class Parked : public testing::TestWithParam<Isolation> {
 protected:
  void SetUp() override { Begin({}); }

  void Begin(Runner::Options options) {
    runner_.reset();
    arena_.reset();
    arena_ = GetParam() == Isolation::kSeg ? Arena::MapInWindow(kWindowLayouts[0]) : Arena::Map(kLayouts[0]);
    if (arena_ == nullptr) GTEST_SKIP() << "the addresses are taken";
    options.isolation = GetParam();
    runner_ = std::make_unique<Runner>(*arena_, options);
    Put(0, "ff e0");  // jmp rax
    PutAnswer(1);
  }

  void Put(std::uint64_t offset, std::string_view code) {
    arena_->WriteCode(arena_->code() + offset, FromHex(code));
  }
  // mov ebx, ANSWER; hlt
  void PutAnswer(std::uint8_t answer, std::uint64_t offset = kTarget) {
    const std::array<std::uint8_t, 6> code = {0xbb, answer, 0, 0, 0, 0xf4};
    arena_->WriteCode(arena_->code() + offset, code);
  }
  void Change(std::uint8_t answer, std::uint64_t offset = kTarget) {
    PutAnswer(answer, offset);
    const std::uint64_t target = arena_->code() + offset;
    runner_->translator().Invalidate(target, target + 6);
  }
  // Whether the first table leads anywhere for it.
  bool IsKnown(std::uint64_t offset) {
    const auto* const memory = reinterpret_cast<const std::byte*>(&runner_->context());
    std::uint64_t host = 0, none = 0;
    std::memcpy(&none, memory + JIT_TO_EXIT_LOOKUP, sizeof(none));
    const std::uint64_t entry = (arena_->code() + offset) % JIT_TABLE_ENTRIES;
    std::memcpy(&host, memory + JIT_TABLE + entry * sizeof(host), sizeof(host));
    return host != none;
  }

  // What is done behind an indirect jump to `offset`.
  std::uint64_t Ask(std::uint64_t offset = kTarget) {
    Machine machine;
    Random random(1);
    Randomize(random, machine);
    machine.rflags = 0x202;
    machine.fs_base = 0;
    machine.gpr[kRsp] = arena_->stack_top() - 0x100;
    machine.gpr[kRax] = arena_->code() + offset;
    machine.rip = arena_->code();
    EXPECT_EQ(runner_->RunTranslated(machine).vector, kHalted);
    return machine.gpr[kRbx];
  }

  std::unique_ptr<ThreadContext> Take() {
    return runner_->translator().TakeParked(arena_->HostAddress(0));
  }
  // The thread ends, and the next has its memory.
  void NextThread(const std::function<void()>& before_it_begins = [] {}) {
    runner_->ChangeThread(runner_->FreshMemory());
    std::unique_ptr<ThreadContext> memory = Take();
    ASSERT_NE(memory, nullptr);
    before_it_begins();
    runner_->ChangeThread(std::move(memory));
  }

  std::uint64_t Lookups() {
    return runner_->translator().statistics().exits[static_cast<std::size_t>(ExitReason::kLookup)];
  }

  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Runner> runner_;
};

TEST_P(Parked, WhatAThreadLookedUpTheNextFindsAtOnce) {
  EXPECT_EQ(Ask(), 1U);
  const std::uint64_t before = Lookups();
  ASSERT_NO_FATAL_FAILURE(NextThread());
  EXPECT_TRUE(IsKnown(kTarget));
  EXPECT_EQ(Ask(), 1U);
  EXPECT_EQ(Lookups(), before);
}

TEST_P(Parked, CodeThatChangedWhileNobodyHadTheMemoryIsWhatRuns) {
  EXPECT_EQ(Ask(), 1U);
  runner_->ChangeThread(runner_->FreshMemory());
  Change(2);
  std::unique_ptr<ThreadContext> memory = Take();
  ASSERT_NE(memory, nullptr);
  runner_->ChangeThread(std::move(memory));
  EXPECT_EQ(Ask(), 2U);
}

TEST_P(Parked, CodeThatChangedWhileAThreadWasMadeIsWhatRuns) {
  EXPECT_EQ(Ask(), 1U);
  ASSERT_NO_FATAL_FAILURE(NextThread([&] { Change(2); }));
  EXPECT_EQ(Ask(), 2U);
}

// One that the second table has.
TEST_P(Parked, CodeThatChangedIsWhatRunsAlsoWhereTargetsShareAnEntry) {
  constexpr std::uint64_t kOther = kTarget + JIT_TABLE_ENTRIES;
  PutAnswer(1, kOther);
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_EQ(Ask(), 1U);
    EXPECT_EQ(Ask(kOther), 1U);
  }
  runner_->ChangeThread(runner_->FreshMemory());
  Change(2, kOther);
  std::unique_ptr<ThreadContext> memory = Take();
  ASSERT_NE(memory, nullptr);
  runner_->ChangeThread(std::move(memory));
  EXPECT_EQ(Ask(), 1U);
  EXPECT_EQ(Ask(kOther), 2U);
}

TEST_P(Parked, NothingLeadsIntoACacheThatWasEmptied) {
  ASSERT_NO_FATAL_FAILURE(Begin({.cache_size = std::size_t{1} << 16}));
  if (runner_ == nullptr) return;
  EXPECT_EQ(Ask(), 1U);
  runner_->ChangeThread(runner_->FreshMemory());
  // Blocks until the cache is full.
  for (std::uint64_t i = 1; runner_->translator().statistics().cache.flushes == 0; ++i) {
    const std::uint64_t place = kTarget + i * 16;
    ASSERT_LT(place + 16, Arena::kCodeSize);
    PutAnswer(3, place);
    ASSERT_EQ(Ask(place), 3U);
  }
  std::unique_ptr<ThreadContext> memory = Take();
  ASSERT_NE(memory, nullptr);
  runner_->ChangeThread(std::move(memory));
  EXPECT_FALSE(IsKnown(kTarget));
  EXPECT_EQ(Ask(), 1U);
}

TEST_P(Parked, AKickAndRegistersAreTheFormerThreadsOwn) {
  EXPECT_EQ(Ask(), 1U);
  Context& former = runner_->context();
  former.gs_base = former.slot_scratch[1] = former.gpr[5] = 0x1234;
  former.kick = 1;
  former.instructions_left = -1;
  ASSERT_NO_FATAL_FAILURE(NextThread());
  Context& next = runner_->context();
  ASSERT_EQ(&next, &former);
  EXPECT_EQ(next.kick, 0U);
  EXPECT_EQ(next.gs_base, 0U);
  EXPECT_EQ(next.slot_scratch[1], 0U);
  EXPECT_EQ(next.gpr, decltype(next.gpr){});
  EXPECT_EQ(next.instructions_left, kNoInstructionLimit);
  constexpr std::size_t kPresentOffset = 512;
  std::uint64_t present = 0;
  std::memcpy(&present, next.extended_area + kPresentOffset, sizeof(present));
  EXPECT_EQ(present, 0U);
}

TEST_P(Parked, ThereIsMemoryOfSoManyAndNoMore) {
  constexpr std::size_t kThreads = 100;
  const std::size_t most = GetParam() == Isolation::kSeg ? 8 : 32;
  std::vector<std::unique_ptr<TranslatedThread>> threads;
  for (std::size_t i = 0; i < kThreads; ++i) threads.push_back(runner_->ChangeThread(runner_->FreshMemory()));
  for (int turn = 0; turn < 2; ++turn) {
    threads.clear();
    std::vector<std::unique_ptr<ThreadContext>> taken;
    while (std::unique_ptr<ThreadContext> memory = Take()) taken.push_back(std::move(memory));
    EXPECT_EQ(taken.size(), most);
    // And as many again when those have ended.
    for (auto& memory : taken) threads.push_back(runner_->ChangeThread(std::move(memory)));
  }
}

TEST_P(Parked, MemoryOfAnotherWindowIsNotTaken) {
  runner_->ChangeThread(runner_->FreshMemory());
  constexpr std::uint64_t kNextWindow = 0x1'0000'0000;
  EXPECT_EQ(runner_->translator().TakeParked(arena_->HostAddress(0) + kNextWindow), nullptr);
  EXPECT_NE(Take(), nullptr);
}

INSTANTIATE_TEST_SUITE_P(, Parked, testing::Values(Isolation::kNone, Isolation::kMask, Isolation::kSeg),
                         [](const testing::TestParamInfo<Isolation>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace dunebox::jit
