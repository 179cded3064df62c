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

TEST(MemoryPatches, AreNotSeenWhileAThreadIsOnItsWayBackFromVfork) {
  const hostcalls::GuestMemory memory{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space{memory, fakes::TestLayout()};
  const auto mapped = space.Map({.length = kPageSize,
                                 .prot = PROT_READ | PROT_WRITE,
                                 .flags = MAP_PRIVATE | MAP_ANONYMOUS});
  ASSERT_TRUE(mapped.ok());
  const auto at = static_cast<std::uint64_t>(mapped.value());
  FakeEngine engine;
  MemoryPatches patches(space, engine);
  ASSERT_TRUE(patches.AddBreakpoint(at));

  std::atomic<bool> is_over = false;
  std::thread vforks([&] {
    constexpr int kVforks = 20'000;
    for (int vfork = 0; vfork < kVforks; ++vfork) {
      patches.Lift();
      patches.PutBack();
    }
    is_over = true;
  });
  const std::string zero(1, '\0');
  int seen = 0;
  while (!is_over) seen += patches.Read(at, 1) != zero;
  vforks.join();
  EXPECT_EQ(seen, 0);
  patches.Clear();
  EXPECT_TRUE(space.Unmap(at, kPageSize).ok());
}

}  // namespace
}  // namespace dunebox::debugger
