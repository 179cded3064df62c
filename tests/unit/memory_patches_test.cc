// Breakpoints in memory, while threads leave for vfork and come back.
#include "runtime/debugger/memory_patches.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/fakes/guest_pages.h"

namespace dunebox::debugger {
namespace {

// Executes what memory holds.
struct FakeEngine final : runtime::ExecutionEngine {
  std::string name() const override { return "fake"; }
  absl::StatusOr<std::unique_ptr<runtime::EngineThread>> CreateThread() override {
    return absl::UnimplementedError("no threads");
  }
  absl::Status AliasHostPages(const GuestRange&, const void*) override { return absl::OkStatus(); }
  bool can_alias_host_pages() const override { return false; }
  void LockForFork() override {}
  void UnlockAfterFork() override {}
  std::vector<runtime::Counter> Counters() override { return {}; }
};

class MemoryPatchesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto mapped = space_.Map({.length = kPageSize,
                                    .prot = PROT_READ | PROT_WRITE,
                                    .flags = MAP_PRIVATE | MAP_ANONYMOUS});
    ASSERT_TRUE(mapped.ok());
    at_ = static_cast<std::uint64_t>(mapped.value());
  }
  void TearDown() override {
    patches_.Clear();
    EXPECT_TRUE(space_.Unmap(at_, kPageSize).ok());
  }
  // What is executed there.
  int InMemory(std::uint64_t address) const { return *reinterpret_cast<const volatile std::uint8_t*>(address); }

  const hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space_{memory_, fakes::TestLayout()};
  FakeEngine engine_;
  MemoryPatches patches_{space_, engine_};
  std::uint64_t at_ = 0;
};

TEST_F(MemoryPatchesTest, AreNotInMemoryWhileAnyChildHasIt) {
  constexpr int kInt3 = 0xcc;
  ASSERT_TRUE(patches_.AddBreakpoint(at_));
  EXPECT_EQ(InMemory(at_), kInt3);
  patches_.Lift();
  ASSERT_TRUE(patches_.AddBreakpoint(at_ + 1));
  EXPECT_EQ(InMemory(at_), 0);
  EXPECT_EQ(InMemory(at_ + 1), 0);
  patches_.Lift();
  patches_.PutBack();
  EXPECT_EQ(InMemory(at_), 0);
  ASSERT_TRUE(patches_.RemoveBreakpoint(at_ + 1));
  EXPECT_EQ(InMemory(at_), 0);
  patches_.PutBack();
  EXPECT_EQ(InMemory(at_), kInt3);
  EXPECT_EQ(InMemory(at_ + 1), 0);
}

TEST_F(MemoryPatchesTest, AreNotSeenWhileAThreadIsOnItsWayBackFromVfork) {
  ASSERT_TRUE(patches_.AddBreakpoint(at_));

  std::atomic<bool> is_over = false;
  std::thread vforks([&] {
    constexpr int kVforks = 20'000;
    for (int vfork = 0; vfork < kVforks; ++vfork) {
      patches_.Lift();
      patches_.PutBack();
    }
    is_over = true;
  });
  const std::string zero(1, '\0');
  int seen = 0;
  while (!is_over) seen += patches_.Read(at_, 1) != zero;
  vforks.join();
  EXPECT_EQ(seen, 0);
}

}  // namespace
}  // namespace dunebox::debugger
