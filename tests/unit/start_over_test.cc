// When a virtual machine's memslots are used up, everything starts over while several vCPUs are in
// the guest. On the real KVM.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/layout.h"
#include "runtime/kvm/mmu.h"
#include "runtime/kvm/vcpu.h"
#include "tests/fakes/guest_pages.h"

// The guest's program: adds 1 to the word at RDI + R8 and at RDX addresses, each RSI further, and
// all that RBX times; then a system call. R10 is what the thread has left everywhere before, R9
// counts the words that were something else.
asm(R"(
        .pushsection .rodata
        .globl  dunebox_test_walk
        .globl  dunebox_test_walk_end
dunebox_test_walk:
        xorl    %r9d, %r9d
1:      movq    %rdi, %rax
        movq    %rdx, %r12
2:      cmpq    %r10, (%rax,%r8)
        je      3f
        incq    %r9
3:      incq    (%rax,%r8)
        addq    %rsi, %rax
        decq    %r12
        jnz     2b
        incq    %r10
        decq    %rbx
        jnz     1b
        syscall
dunebox_test_walk_end:
        .popsection
)");
extern "C" const char dunebox_test_walk[];
extern "C" const char dunebox_test_walk_end[];

namespace dunebox::kvm {
namespace {

constexpr std::uint64_t kCode = fakes::kTestWindow;
constexpr std::uint64_t kStride = std::uint64_t{1} << 30;  // the larger one of the granules
constexpr std::uint64_t kPages = 12, kChangingPages = 128;
constexpr std::uint64_t kShared = kCode + kStride;
constexpr std::uint64_t kChanging = kShared + kPages * kStride;
constexpr std::uint32_t kSlots = layout::kWindowSlot + 24;
constexpr int kThreads = 4;
constexpr std::uint64_t kRounds = 20;  // of one entry into the guest
constexpr std::uint64_t kEnough = 20;

class StartOverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/kvm cannot be used here";
    absl::StatusOr<Probe> probe = RunProbe(HostKvmApi());
    if (!probe.ok()) GTEST_SKIP() << probe.status();
    probe_ = *probe;
    vm_ = std::move(*Vm::Create(HostKvmApi()));
    mmu_ = std::make_unique<Mmu>(*vm_, space_, probe_.paging);
    ASSERT_EQ(mmu_->Initialize(), absl::OkStatus());
    ASSERT_EQ(mmu_->WithTables([&](PageTables& tables) {
      return InstallSupervisorFor(probe_, *vm_, tables, ProgramRing::kRing3);
    }), absl::OkStatus());
    space_.SetObserver(mmu_.get());
    MapPage(kCode);
    std::memcpy(reinterpret_cast<void*>(kCode), dunebox_test_walk,
                static_cast<std::size_t>(dunebox_test_walk_end - dunebox_test_walk));
    for (std::uint64_t i = 0; i < kPages; ++i) MapPage(kShared + i * kStride);
  }
  void TearDown() override {
    space_.SetObserver(nullptr);
    if (mmu_ == nullptr) return;
    munmap(reinterpret_cast<void*>(kCode), kPageSize);
    for (std::uint64_t i = 0; i < kPages; ++i) {
      munmap(reinterpret_cast<void*>(kShared + i * kStride), kPageSize);
    }
  }

  void MapPage(std::uint64_t address) {
    const auto mapped = space_.Map({.address = address,
                                    .length = kPageSize,
                                    .prot = PROT_READ | PROT_WRITE | PROT_EXEC,
                                    .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED});
    ASSERT_EQ(static_cast<std::uint64_t>(mapped.value()), address);
  }
  // Runs the program over `pages` pages from `base`, where the thread has left `before` in each;
  // empty when it went well.
  std::string Walk(Vcpu& vcpu, unsigned index, std::uint64_t base, std::uint64_t pages,
                   std::uint64_t before = 0) {
    runtime::Registers registers;
    registers.r10 = before;
    registers.rip = kCode;
    registers.rdi = base;
    registers.rsi = kStride;
    registers.rdx = pages;
    registers.rbx = kRounds;
    registers.r8 = index * sizeof(std::uint64_t);
    runtime::Exit exit = vcpu.Run(registers);
    if (std::holds_alternative<runtime::SystemCall>(exit)) {
      return registers.r9 == 0 ? "" : std::to_string(registers.r9) + " words were wrong";
    }
    if (auto* failure = std::get_if<runtime::EngineFailure>(&exit)) return failure->reason;
    return "exit " + std::to_string(exit.index()) + " at " + std::to_string(registers.rip);
  }
  std::unique_ptr<Vcpu> MakeVcpu(unsigned index) {
    return std::move(*Vcpu::Create(*vm_, *mmu_, probe_, index, ProgramRing::kRing3));
  }

  hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space_{memory_, fakes::TestLayout()};
  Probe probe_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Mmu> mmu_;
};

TEST_F(StartOverTest, EveryThreadGoesOnWithWhatItHadWritten) {
  std::vector<std::unique_ptr<Vcpu>> vcpus;
  for (unsigned i = 0; i <= kThreads; ++i) vcpus.push_back(MakeVcpu(i));
  vm_->LimitSlots(kSlots);
  std::atomic<bool> stop = false;
  std::uint64_t rounds[kThreads] = {};
  // Uses up slots: a page of its own in another granule each time.
  std::thread changer([&] {
    for (std::uint64_t i = 0; !stop; i = (i + 1) % kChangingPages) {
      const std::uint64_t page = kChanging + i * kStride;
      MapPage(page);
      const std::string wrong = Walk(*vcpus[kThreads], kThreads, page, 1);
      EXPECT_EQ(wrong, "");
      EXPECT_TRUE(space_.Unmap(page, kPageSize).ok());
      if (!wrong.empty()) stop = true;
    }
  });
  std::vector<std::thread> walkers;
  for (unsigned i = 0; i < kThreads; ++i) {
    walkers.emplace_back([&, i] {
      for (; mmu_->times_started_over() < kEnough && !stop; rounds[i] += kRounds) {
        const std::string wrong = Walk(*vcpus[i], i, kShared, kPages, rounds[i]);
        EXPECT_EQ(wrong, "");
        if (!wrong.empty()) stop = true;
      }
    });
  }
  for (std::thread& walker : walkers) walker.join();
  stop = true;
  changer.join();
  for (std::uint64_t page = 0; page < kPages; ++page) {
    for (unsigned i = 0; i < kThreads; ++i) {
      const auto* word = reinterpret_cast<const std::uint64_t*>(kShared + page * kStride) + i;
      EXPECT_EQ(*word, rounds[i]) << "page " << page << ", thread " << i;
    }
  }
  RecordProperty("rounds", static_cast<int>(rounds[0]));
}

}  // namespace
}  // namespace dunebox::kvm
