// What one Mmu does for several threads at the same time.
#include "runtime/kvm/mmu.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "libdune/x86/control.h"
#include "runtime/kvm/layout.h"
#include "runtime/kvm/vm.h"
#include "tests/fakes/fake_kvm.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::kvm {
namespace {

namespace page_fault = dune::x86::page_fault;

constexpr std::uint64_t kSpan = std::uint64_t{2} << 20;
constexpr std::uint64_t kSpans = 2000;

// Each new span grows the map of the tables, in which the vCPU's page is looked up.
TEST(Mmu, AThreadThatComesMapsItsVcpuWhileOthersFault) {
  hostcalls::GuestMemory memory{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space{memory, fakes::TestLayout()};
  for (int round = 0; round < 20; ++round) {
    fakes::FakeKvm kvm;
    const auto vm = *Vm::Create(kvm);
    Mmu mmu(*vm, space, Paging::kTwoDimensional);
    ASSERT_EQ(mmu.Initialize(), absl::OkStatus());
    const auto at = space.Map({.length = kSpans * kSpan,
                               .prot = PROT_READ,
                               .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE});
    ASSERT_TRUE(at.ok());
    const auto start = static_cast<std::uint64_t>(at.value());

    std::atomic<bool> has_begun = false, is_over = false;
    std::thread newcomers([&] {
      for (unsigned index = 0; !is_over; index = (index + 1) % layout::kMostVcpus) {
        const std::uint64_t block = layout::kVcpuBlocksOffset + index * kPageSize;
        EXPECT_EQ(mmu.WithTables([&](PageTables& tables) {
          return tables.MapSupervisor(layout::ArenaVirt(block), GuestPhys{block}, /*writable=*/true,
                                      /*execute=*/false);
        }), absl::OkStatus());
        has_begun = true;
      }
    });
    while (!has_begun) std::this_thread::yield();
    for (std::uint64_t span = 0; span < kSpans; ++span) {
      EXPECT_EQ(mmu.Resolve(start + span * kSpan, page_fault::kUser, BackingCheck::kAssume),
                Resolution::kMapped);
    }
    is_over = true;
    newcomers.join();
    EXPECT_TRUE(space.Unmap(start, kSpans * kSpan).ok());
  }
}

}  // namespace
}  // namespace dunebox::kvm
