// Which pages of a file are mapped with the one that is touched, and what KVM is asked for.
#include "runtime/kvm/fault_around.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "libdune/x86/control.h"
#include "runtime/kvm/mmu.h"
#include "runtime/kvm/vm.h"
#include "tests/fakes/fake_kvm.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::kvm {
namespace {

using fakes::FakeKvm;
namespace page_fault = dune::x86::page_fault;

constexpr GuestVirt kSpan{std::uint64_t{3} << 40};
constexpr GuestRange kPart{kSpan, kSpan + (2 << 20)};

constexpr GuestVirt Page(std::uint64_t number) { return kSpan + number * kPageSize; }
std::uint64_t First(const GuestRange& range) { return (range.start - kSpan) / kPageSize; }
std::uint64_t Pages(const GuestRange& range) { return range.size() / kPageSize; }

TEST(FaultAround, TheFirstFaultFillsTheAlignedPagesAroundIt) {
  FaultAround around;
  const auto window = around.Choose(kPart, Page(37), TableState::kNew);
  EXPECT_EQ(First(window.filled), 32u);
  EXPECT_EQ(Pages(window.filled), FaultAround::kLeastPages);
  EXPECT_EQ(First(window.mapped), 32u);
  EXPECT_EQ(Pages(window.mapped), FaultAround::kLeastPages);
}

TEST(FaultAround, WhoGoesOnWhereAWindowEndedGetsOneTwiceAsLarge) {
  FaultAround around;
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t page = 0; page < 512;) {
    const auto window = around.Choose(kPart, Page(page), page == 0 ? TableState::kNew : TableState::kInUse);
    EXPECT_EQ(First(window.filled), page);
    EXPECT_EQ(Pages(window.mapped), Pages(window.filled));
    sizes.push_back(Pages(window.filled));
    page += sizes.back();
  }
  EXPECT_EQ(sizes, (std::vector<std::uint64_t>{16, 32, 64, 128, 256, 16}));
  // And over the end of the span: the next one at once.
  const GuestRange next{kPart.end, kPart.end + (2 << 20)};
  EXPECT_EQ(Pages(around.Choose(next, next.start, TableState::kNew).filled), 512u);
}

TEST(FaultAround, WhoComesBackFromElsewhereGetsTheWholeTableButFewPages) {
  FaultAround around;
  around.Choose(kPart, Page(0), TableState::kNew);
  const auto window = around.Choose(kPart, Page(300), TableState::kInUse);
  EXPECT_EQ(Pages(window.filled), 512u);
  EXPECT_EQ(First(window.mapped), 288u);
  EXPECT_EQ(Pages(window.mapped), FaultAround::kLeastPages);
}

TEST(FaultAround, AWindowStaysWithinItsMapping) {
  FaultAround around;
  const GuestRange part{Page(35), Page(41)};
  const auto window = around.Choose(part, Page(38), TableState::kNew);
  EXPECT_EQ(First(window.filled), 35u);
  EXPECT_EQ(Pages(window.filled), 6u);
}

TEST(FaultAround, FourMappingsAreGoneThroughSideBySide) {
  FaultAround around;
  for (std::uint64_t round = 0, page = 0; round < 3; ++round) {
    std::uint64_t pages = 0;
    for (std::uint64_t stream = 0; stream < 4; ++stream) {
      const GuestVirt start = kSpan + (stream << 30);
      pages = Pages(around.Choose({start, start + (2 << 20)}, start + page * kPageSize, TableState::kNew).filled);
      EXPECT_EQ(pages, 16u << round) << stream;
    }
    page += pages;
  }
}

// ---- What KVM is asked for -------------------------------------------------------------------------

class Mapping {
 public:
  explicit Mapping(std::uint64_t pages)
      : bytes_(pages * kPageSize),
        at_(static_cast<std::byte*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    madvise(at_, bytes_, MADV_NOHUGEPAGE);
  }
  ~Mapping() { munmap(at_, bytes_); }
  void Touch(std::uint64_t page) { at_[page * kPageSize] = std::byte{1}; }
  std::byte* at() const { return at_; }

 private:
  const std::size_t bytes_;
  std::byte* const at_;
};

struct Machine {
  explicit Machine(FakeKvm& kvm) : vm(*Vm::Create(kvm)) {
    vcpu = kvm.Ioctl(vm->fd(), KVM_CREATE_VCPU, std::uintptr_t{0});
  }
  std::unique_ptr<Vm> vm;
  int vcpu = -1;
};

constexpr GuestPhys kFrame{std::uint64_t{5} << 30};

TEST(MapResident, AsksForEachRunOfPagesThatTheHostHas) {
  FakeKvm kvm;
  kvm.capabilities[KVM_CAP_PRE_FAULT_MEMORY] = 1;
  Machine machine(kvm);
  Mapping pages(16);
  for (const std::uint64_t page : {1, 2, 3, 9, 15}) pages.Touch(page);
  const Ahead ahead{{Page(0), Page(16)}, kFrame};
  EXPECT_EQ(MapResident(kvm, machine.vcpu, pages.at(), ahead), 5u);
  ASSERT_EQ(kvm.pre_faults.size(), 3u);
  const std::uint64_t firsts[] = {1, 9, 15}, counts[] = {3, 1, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(kvm.pre_faults[i].gpa, kFrame.value + firsts[i] * kPageSize);
    EXPECT_EQ(kvm.pre_faults[i].size, counts[i] * kPageSize);
  }
}

TEST(MapResident, StopsWhereKvmStopsAndCountsWhatIsMapped) {
  FakeKvm kvm;
  kvm.capabilities[KVM_CAP_PRE_FAULT_MEMORY] = 1;
  Machine machine(kvm);
  Mapping pages(16);
  for (const std::uint64_t page : {0, 1, 2, 3, 8}) pages.Touch(page);
  const Ahead ahead{{Page(0), Page(16)}, kFrame};
  kvm.pre_fault_most = 2 * kPageSize;
  EXPECT_EQ(MapResident(kvm, machine.vcpu, pages.at(), ahead), 2u);
  kvm.FailCall(1, EINTR);
  EXPECT_EQ(MapResident(kvm, machine.vcpu, pages.at(), ahead), 0u);
  EXPECT_EQ(kvm.pre_faults.size(), 1u);
}

// ---- Which faults it is for ------------------------------------------------------------------------

class FaultAroundMmu : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kPages = 64;

  void SetUp() override {
    file_ = memfd_create("file", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(file_, kPages * kPageSize), 0);
  }
  void TearDown() override {
    for (const std::uint64_t at : mapped_) munmap(reinterpret_cast<void*>(at), kPages * kPageSize);
    close(file_);
  }

  void Prepare(bool can_pre_fault, Paging paging = Paging::kTwoDimensional) {
    kvm_.capabilities[KVM_CAP_PRE_FAULT_MEMORY] = can_pre_fault ? 1 : 0;
    vm_ = *Vm::Create(kvm_);
    mmu_ = std::make_unique<Mmu>(*vm_, space_, paging);
    ASSERT_EQ(mmu_->Initialize(), absl::OkStatus());
  }
  std::uint64_t Map(int flags, int fd, int prot = PROT_READ) {
    const auto at = space_.Map({.length = kPages * kPageSize, .prot = prot, .flags = flags, .fd = fd});
    EXPECT_TRUE(at.ok());
    mapped_.push_back(static_cast<std::uint64_t>(at.value()));
    return mapped_.back();
  }
  // The pages that KVM may map with it.
  std::uint64_t Fault(std::uint64_t address, std::uint64_t code = 0) {
    Ahead ahead;
    EXPECT_EQ(mmu_->Resolve(address, code | page_fault::kUser, BackingCheck::kAssume, &ahead),
              Resolution::kMapped);
    if (!ahead.range.empty()) {
      EXPECT_TRUE(ahead.range.Contains(GuestVirt{PageDown(address)}));
      EXPECT_EQ(ahead.first, *vm_->PhysicalFor(ahead.range.start));
    }
    return Pages(ahead.range);
  }

  // The pages of the mapping at `at` that the tables have.
  std::vector<std::uint64_t> Present(std::uint64_t at) {
    std::vector<std::uint64_t> pages;
    mmu_->WithTables([&](const PageTables& tables) {
      tables.ForEachPresent({GuestVirt{at}, GuestVirt{at} + kPages * kPageSize},
                            [&](GuestVirt page) { pages.push_back(page.value); });
    });
    return pages;
  }

  FakeKvm kvm_;
  hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space_{memory_, fakes::TestLayout()};
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Mmu> mmu_;
  int file_ = -1;
  std::vector<std::uint64_t> mapped_;
};

TEST_F(FaultAroundMmu, IsForFilesThatAreReadAndForWritesToSharedOnes) {
  Prepare(true);
  EXPECT_NE(Fault(Map(MAP_PRIVATE, file_)), 0u);
  EXPECT_NE(Fault(Map(MAP_SHARED, file_)), 0u);
  EXPECT_NE(Fault(Map(MAP_SHARED, file_, PROT_READ | PROT_WRITE), page_fault::kWrite), 0u);
  EXPECT_EQ(Fault(Map(MAP_PRIVATE, file_, PROT_READ | PROT_WRITE), page_fault::kWrite), 0u);
  EXPECT_EQ(Fault(Map(MAP_PRIVATE | MAP_ANONYMOUS, -1)), 0u);
}

TEST_F(FaultAroundMmu, IsNothingWhereKvmCannotBeAsked) {
  Prepare(false);
  EXPECT_EQ(Fault(Map(MAP_PRIVATE, file_)), 0u);
}

TEST_F(FaultAroundMmu, IsNothingWhereKvmWatchesTheTables) {
  Prepare(true, Paging::kShadow);
  EXPECT_EQ(Fault(Map(MAP_PRIVATE, file_)), 0u);
}

TEST_F(FaultAroundMmu, BeginsAnewInAMappingThatTookAnothersPlace) {
  Prepare(true);
  space_.SetObserver(mmu_.get());
  const std::uint64_t at = Map(MAP_PRIVATE, file_);
  Fault(at);
  ASSERT_TRUE(space_.Unmap(at, kPages * kPageSize).ok());
  ASSERT_EQ(Map(MAP_PRIVATE, file_), at);
  Fault(at);
  EXPECT_LE(Present(at).size(), FaultAround::kLeastPages);
  space_.SetObserver(nullptr);
}

TEST_F(FaultAroundMmu, FillsInNoNeighbourWithOtherRights) {
  Prepare(true);
  const std::uint64_t at = Map(MAP_SHARED, file_);
  ASSERT_TRUE(space_.Protect(at + kPageSize, kPageSize, PROT_NONE).ok());
  Fault(at);
  EXPECT_EQ(Present(at), std::vector<std::uint64_t>{at});
}

}  // namespace
}  // namespace dunebox::kvm
