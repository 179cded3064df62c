// A sandbox's window belongs to it, whatever its guest maps, unmaps and moves: nobody else of the process ever
// finds a free address there.
#include "sandbox/plugin/window.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <span>

#include "jit-fallback/emit/isolation.h"
#include "runtime/memory/address_space.h"
#include "sandbox/plugin/arena.h"
#include "sandbox/plugin/host_signals.h"

namespace dunebox::plugin {
namespace {

constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS, kReadWrite = PROT_READ | PROT_WRITE;

class Window : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(TakeOverSignals().ok());  // copies of what is not there fail
    absl::StatusOr<ReservedWindow> made = ReservedWindow::Create();
    ASSERT_TRUE(made.ok()) << made.status();
    window = std::make_shared<const ReservedWindow>(*std::move(made));
    memory.emplace(window->window());
    space.emplace(*memory, memory::Layout::FromRandom(1, 1 << 20, memory::Images::kSmall));
  }
  // For the rest of the process. `address` is the guest's.
  bool IsFree(std::uint64_t address) const {
    void* const wanted = reinterpret_cast<void*>(window->window().base + address);
    void* const got = mmap(wanted, 4096, PROT_NONE, kPrivate | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == MAP_FAILED) return errno != EEXIST;
    munmap(got, 4096);
    return got == wanted;
  }
  std::uint64_t Map(std::uint64_t length) {
    const auto mapped = space->Map({.length = length, .prot = kReadWrite, .flags = kPrivate});
    EXPECT_TRUE(mapped.ok());
    return mapped.ToRegister();
  }
  void Fill(std::uint64_t address, std::byte value) {
    std::array<std::byte, 4096> page;
    page.fill(value);
    ASSERT_TRUE(memory->Write(address, page));
  }
  std::byte At(std::uint64_t address) {
    std::byte value{};
    EXPECT_TRUE(memory->Read(address, std::span(&value, 1)));
    return value;
  }

  std::shared_ptr<const ReservedWindow> window;
  std::optional<hostcalls::GuestMemory> memory;
  std::optional<memory::AddressSpace> space;
};

TEST_F(Window, IsReservedWithItsGuards) {
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 32;
  EXPECT_EQ(window->window().base % kEnd, 0u);
  EXPECT_NE(window->window().base, 0u);
  for (const std::uint64_t address : {std::uint64_t{0}, kEnd / 2, kEnd - 4096, kEnd,
                                      kEnd + jit::kWindowGuard - 4096, std::uint64_t{0} - 4096,
                                      std::uint64_t{0} - jit::kWindowGuard}) {
    EXPECT_FALSE(IsFree(address)) << std::hex << address;
  }
}

TEST_F(Window, StaysReservedWhereMemoryWasUnmapped) {
  const std::uint64_t address = Map(3 * 4096);
  ASSERT_TRUE(space->Unmap(address + 4096, 4096).ok());
  EXPECT_FALSE(IsFree(address + 4096));
  std::byte value{};
  EXPECT_FALSE(memory->Read(address + 4096, std::span(&value, 1)));
  EXPECT_EQ(At(address), std::byte{0});
}

TEST_F(Window, StaysReservedWhereMemoryWasMovedFrom) {
  const std::uint64_t address = Map(2 * 4096);
  Fill(address + 4096, std::byte{7});
  const std::uint64_t target = Map(8 * 4096);
  ASSERT_TRUE(space->Unmap(target, 8 * 4096).ok());
  const auto moved = space->Remap({.old_address = address,
                                   .old_length = 2 * 4096,
                                   .new_length = 8 * 4096,
                                   .flags = MREMAP_MAYMOVE | MREMAP_FIXED,
                                   .new_address = target});
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(At(target + 4096), std::byte{7});
  EXPECT_EQ(At(target + 7 * 4096), std::byte{0});
  EXPECT_FALSE(IsFree(address));
  std::byte value{};
  EXPECT_FALSE(memory->Read(address, std::span(&value, 1)));
}

TEST_F(Window, LetsMemoryGrowAndShrink) {
  const std::uint64_t room = Map(16 * 4096);
  ASSERT_TRUE(space->Unmap(room + 4096, 15 * 4096).ok());
  Fill(room, std::byte{9});
  ASSERT_EQ(space->Remap({.old_address = room, .old_length = 4096, .new_length = 4 * 4096}).ToRegister(),
            room);
  EXPECT_EQ(At(room), std::byte{9});
  EXPECT_EQ(At(room + 3 * 4096), std::byte{0});
  ASSERT_TRUE(space->Remap({.old_address = room, .old_length = 4 * 4096, .new_length = 4096}).ok());
  EXPECT_FALSE(IsFree(room + 4096));
}

TEST_F(Window, LetsNobodyChangeWhatIsTheHosts) {
  Arena arena(window, window->window().base);
  const auto more = [&](std::uint64_t bytes) { return MapPrivate(*space, bytes); };
  const absl::StatusOr<std::uint64_t> address = arena.Allocate(10'000, more);
  ASSERT_TRUE(address.ok());
  arena.HostPointer(*address)[9'999] = std::byte{1};
  EXPECT_EQ(At(*address + 9'999), std::byte{1});
  const std::uint64_t page = PageDown(*address);
  EXPECT_EQ(space->Unmap(page, 4096).error(), EPERM);
  EXPECT_EQ(space->Protect(page, 4096, PROT_READ).error(), EPERM);
  EXPECT_EQ(space->Advise(page, 4096, MADV_DONTNEED).error(), EPERM);
  EXPECT_EQ(space->Remap({.old_address = page, .old_length = 4096, .new_length = 8192, .flags = MREMAP_MAYMOVE})
                .error(),
            EPERM);
  EXPECT_EQ(space->Map({.address = page, .length = 4096, .prot = PROT_READ, .flags = kPrivate | MAP_FIXED})
                .error(),
            EPERM);
}

TEST_F(Window, GivesOutMemoryAgain) {
  Arena arena(window, window->window().base);
  const auto more = [&](std::uint64_t bytes) { return MapPrivate(*space, bytes); };
  const absl::StatusOr<std::uint64_t> first = arena.Allocate(1000, more);
  const absl::StatusOr<std::uint64_t> second = arena.Allocate(1000, more);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_GE(*second, *first + 1000);
  arena.HostPointer(*first)[0] = std::byte{1};
  arena.Free(*first, 1000);
  arena.Free(*second, 1000);
  const absl::StatusOr<std::uint64_t> both = arena.Allocate(2000, more);
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(*both, *first);
  EXPECT_EQ(arena.HostPointer(*both)[0], std::byte{0});
  EXPECT_EQ(arena.Allocate(std::size_t{1} << 33, more).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace dunebox::plugin
