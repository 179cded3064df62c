// Every call to KVM fails once, with each of the kernel's usual reasons: the result says so in
// words, and nothing is left open.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "libdune/ring0/image.h"
#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/layout.h"
#include "runtime/kvm/mmu.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/vcpu.h"
#include "tests/fakes/fake_kvm.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::kvm {
namespace {

using fakes::FakeKvm;
using fakes::GuestPages;

constexpr std::array kReasons = {EINVAL, ENOMEM, EPERM};
constexpr Probe kHardware{.ring0 = Ring0::kNative,
                          .syscall_entry = SyscallEntry::kRing0,
                          .sysret_works = true,
                          .paging = Paging::kTwoDimensional};

// The guest's side of an engine.
struct Guest {
  hostcalls::GuestMemory memory{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space{memory, fakes::TestLayout()};
};

absl::Status EnterPages(Guest& guest, const GuestPages& pages) {
  guest.space.AddSealed({GuestVirt{pages.address()}, GuestVirt{pages.end()}},
                        {.read = true, .write = true}, "test");
  return absl::OkStatus();
}

// Runs to its end on a healthy KVM; on a failing one returns the failure.
using Scenario = std::function<absl::Status(FakeKvm&)>;

void ExpectNothingLeft(const FakeKvm& kvm) {
  EXPECT_EQ(kvm.open_descriptors(), 0u);
  EXPECT_EQ(kvm.mapped_run_areas(), 0u);
  EXPECT_EQ(kvm.misuses(), 0);
}

// How many calls `scenario` makes, each of which is then made to fail.
int FailEachCall(const Scenario& scenario) {
  FakeKvm healthy;
  EXPECT_EQ(scenario(healthy), absl::OkStatus());
  ExpectNothingLeft(healthy);
  for (int n = 1; n <= healthy.calls(); ++n) {
    for (const int reason : kReasons) {
      SCOPED_TRACE(healthy.names()[n - 1] + " (call " + std::to_string(n) +
                   "): " + strerror(reason));
      FakeKvm kvm;
      kvm.FailFrom(n, reason);
      const absl::Status status = scenario(kvm);
      EXPECT_FALSE(status.ok());
      EXPECT_NE(status.message().find(strerror(reason)), std::string::npos) << status;
      EXPECT_GT(status.message().size(), std::strlen(strerror(reason)) + 2) << status;
      ExpectNothingLeft(kvm);
    }
  }
  return healthy.calls();
}

TEST(KvmFaultInjection, CreatingTheMachineFailsCleanlyAtEveryCall) {
  EXPECT_GE(FailEachCall([](FakeKvm& kvm) { return Vm::Create(kvm).status(); }), 12);
}

TEST(KvmFaultInjection, CreatingTheEngineFailsCleanlyAtEveryCall) {
  EXPECT_GE(FailEachCall([](FakeKvm& kvm) {
              Guest guest;
              return KvmEngine::Create(kvm, kHardware, guest.space, ProgramRing::kRing3).status();
            }),
            12);
}

TEST(KvmFaultInjection, CreatingAThreadFailsCleanlyAtEveryCall) {
  EXPECT_GE(FailEachCall([](FakeKvm& kvm) {
              Guest guest;
              auto engine = KvmEngine::Create(kvm, kHardware, guest.space, ProgramRing::kRing3);
              if (!engine.ok()) return engine.status();
              return (*engine)->CreateThread().status();
            }),
            20);
}

// A vCPU cannot be made again: one that is lost is one less for good.
TEST(KvmFaultInjection, AVcpuThatCouldNotBeTakenIsThereForTheNextThread) {
  FakeKvm kvm;
  Guest guest;
  auto engine = KvmEngine::Create(kvm, kHardware, guest.space, ProgramRing::kRing0);
  ASSERT_TRUE(engine.ok()) << engine.status();
  ASSERT_TRUE((*engine)->CreateThread().ok());  // and gives it back
  const std::string create = "ioctl " + std::to_string(KVM_CREATE_VCPU & 0xff);
  const auto vcpus = [&] { return std::ranges::count(kvm.names(), create); };
  ASSERT_EQ(vcpus(), 1);
  const int before = kvm.calls();
  ASSERT_TRUE((*engine)->CreateThread().ok());
  const int calls = kvm.calls() - before;
  ASSERT_GE(calls, 3);
  for (int n = 1; n <= calls; ++n) {
    kvm.FailCall(n, ENOMEM);
    EXPECT_FALSE((*engine)->CreateThread().ok()) << kvm.names().back();
  }
  EXPECT_TRUE((*engine)->CreateThread().ok());
  EXPECT_EQ(vcpus(), 1);
}

TEST(KvmFaultInjection, ThreadsThatCouldNotBeMadeAreNoThreadsLessLater) {
  FakeKvm kvm;
  Guest guest;
  auto engine = KvmEngine::Create(kvm, kHardware, guest.space, ProgramRing::kRing3);
  ASSERT_TRUE(engine.ok()) << engine.status();
  for (unsigned refused = 0; refused <= layout::kMostVcpus; ++refused) {
    kvm.FailCall(1, EMFILE);
    ASSERT_FALSE((*engine)->CreateThread().ok());
  }
  // Here KVM has the vCPU already.
  kvm.FailCall(2, ENOMEM);
  ASSERT_FALSE((*engine)->CreateThread().ok());
  EXPECT_TRUE((*engine)->CreateThread().ok());
}

// The child drops what it has of its parent's threads; where their kicks are noted is memory of both.
TEST(KvmEngine, AForkedChildTakesNoKickFromItsParent) {
  FakeKvm kvm;
  Guest guest;
  auto engine = KvmEngine::Create(kvm, kHardware, guest.space, ProgramRing::kRing3);
  ASSERT_TRUE(engine.ok()) << engine.status();
  auto thread = (*engine)->CreateThread();
  ASSERT_TRUE(thread.ok()) << thread.status();
  (*thread)->Kick();
  const pid_t child = fork();
  if (child == 0) {
    engine->reset();
    thread->reset();
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  runtime::Registers registers;
  EXPECT_TRUE(std::holds_alternative<runtime::Interrupted>((*thread)->Run(registers)));
}

TEST(KvmFaultInjection, AliasingHostPagesFailsCleanlyAtEveryCall) {
  FailEachCall([](FakeKvm& kvm) {
    Guest guest;
    GuestPages pages(1);
    auto engine = KvmEngine::Create(kvm, kHardware, guest.space, ProgramRing::kRing3);
    if (!engine.ok()) return engine.status();
    return (*engine)->AliasHostPages({GuestVirt{0x3000'0000'0000}, GuestVirt{0x3000'0000'1000}},
                                     pages.host());
  });
}

// ---- the probe ----------------------------------------------------------------------------------

void AtPort(kvm_run& run, int privilege, std::uint16_t port) {
  run.exit_reason = KVM_EXIT_IO;
  run.io.direction = KVM_EXIT_IO_OUT;
  run.io.port = port;
  run.s.regs.sregs.cs.selector = static_cast<std::uint16_t>(
      privilege == 0 ? DUNE_SELECTOR_KERNEL_CODE : DUNE_SELECTOR_USER_CODE);
}

// An exception of ring 3's that has arrived in ring 0.
void Trap(FakeKvm& kvm, kvm_run& run, dune::x86::Vector vector, std::uint64_t rip) {
  AtPort(run, 0, DUNE_PORT_TRAP);
  const std::uint64_t frame =
      layout::kVcpuBlocksOffset + layout::kBlockTrapStackTop - sizeof(abi::TrapFrame);
  *reinterpret_cast<abi::TrapFrame*>(kvm.Memory(GuestPhys{frame})) = {
      .vector = static_cast<std::uint64_t>(vector),
      .error_code = 0,
      .rip = rip,
      .cs = DUNE_SELECTOR_USER_CODE};
}

// One measurement of ring 0 and of ring 3, ending in a SYSCALL.
void ScriptMeasurement(FakeKvm& kvm, std::uint64_t ring0_cycles, std::uint64_t ring3_cycles = 40'000,
                       bool enters_ring0 = true) {
  kvm.ScriptRun([ring0_cycles](kvm_run& run) {
    AtPort(run, 0, DUNE_PORT_PROBE);
    run.s.regs.regs.rax = ring0_cycles;
    return 0;
  });
  kvm.ScriptRun([&kvm, ring3_cycles, enters_ring0](kvm_run& run) {
    if (enters_ring0) {
      AtPort(run, 0, DUNE_PORT_SYSCALL);
    } else {
      Trap(kvm, run, dune::x86::Vector::kPageFault,
           layout::ArenaVirt(dune::Ring0Header().syscall_entry).value);
    }
    run.s.regs.regs.r8 = ring3_cycles;
    run.s.regs.regs.rcx = fakes::kTestWindow + 20;
    return 0;
  });
}

// SYSRETQ works, and tables are the processor's.
void ScriptEndOfHardwareProbe(FakeKvm& kvm) {
  const auto trap = [&kvm](dune::x86::Vector vector) {
    return [&kvm, vector](kvm_run& run) {
      Trap(kvm, run, vector, fakes::kTestWindow + 20);
      return 0;
    };
  };
  kvm.ScriptRun(trap(dune::x86::Vector::kGeneralProtection));
  kvm.ScriptRun(trap(dune::x86::Vector::kInvalidOpcode));
}

// What the probe guest does on a processor with hardware virtualization.
void ScriptHardwareProbe(FakeKvm& kvm) {
  for (int i = 0; i < 3; ++i) ScriptMeasurement(kvm, 400);  // 2 cycles a round
  ScriptEndOfHardwareProbe(kvm);
}

TEST(KvmFaultInjection, ProbingFailsCleanlyAtEveryCall) {
  EXPECT_GE(FailEachCall([](FakeKvm& kvm) {
              ScriptHardwareProbe(kvm);
              return RunProbe(kvm).status();
            }),
            22);
}

TEST(KvmProbe, RecognisesHardwareByWhatTheGuestDoes) {
  FakeKvm kvm;
  ScriptHardwareProbe(kvm);
  const absl::StatusOr<Probe> probe = RunProbe(kvm);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->verdict(), "hardware");
  EXPECT_EQ(probe->paging, Paging::kTwoDimensional);
  EXPECT_FALSE(probe->ring3_out_exits);
}

// Another process had the processor meanwhile.
TEST(KvmProbe, BelievesOnlyARing0ThatIsSlowEachTime) {
  FakeKvm kvm;
  ScriptMeasurement(kvm, 40'000'000);
  for (int i = 0; i < 2; ++i) ScriptMeasurement(kvm, 400);
  ScriptEndOfHardwareProbe(kvm);
  absl::StatusOr<Probe> probe = RunProbe(kvm);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->verdict(), "hardware");
  FakeKvm slow;
  for (int i = 0; i < 8; ++i) ScriptMeasurement(slow, 400'000);
  ScriptEndOfHardwareProbe(slow);
  probe = RunProbe(slow);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->verdict(), "emulated");
}

TEST(KvmProbe, TakesARing3ThatWasKeptWaitingForNoFastRing0) {
  FakeKvm kvm;
  ScriptMeasurement(kvm, 400'000, 4'000'000'000);
  for (int i = 0; i < 7; ++i) ScriptMeasurement(kvm, 400'000);
  ScriptEndOfHardwareProbe(kvm);
  absl::StatusOr<Probe> probe = RunProbe(kvm);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->ring0, Ring0::kEmulated);
  // Where SYSCALL does not enter ring 0 no measurement makes it the processor's.
  FakeKvm other;
  ScriptMeasurement(other, 400'000, 4'000'000'000, /*enters_ring0=*/false);
  ScriptEndOfHardwareProbe(other);
  probe = RunProbe(other);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->ring0, Ring0::kEmulated);
}

TEST(KvmProbe, GoesOnAfterASignal) {
  FakeKvm kvm;
  kvm.ScriptRun([](kvm_run&) { return -EINTR; });
  kvm.ScriptRun([](kvm_run&) { return -EAGAIN; });
  ScriptHardwareProbe(kvm);
  EXPECT_TRUE(RunProbe(kvm).ok());
}

TEST(KvmProbe, RefusesAGuestThatEndsStrangely) {
  for (int strange = 0; strange < 2; ++strange) {
    FakeKvm kvm;
    if (strange == 1) {
      kvm.ScriptRun([](kvm_run& run) {
        AtPort(run, 0, DUNE_PORT_PROBE);
        return 0;
      });
    }
    kvm.ScriptRun([](kvm_run& run) {
      run.exit_reason = KVM_EXIT_SHUTDOWN;
      return 0;
    });
    const absl::Status status = RunProbe(kvm).status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    ExpectNothingLeft(kvm);
  }
}

// ---- capabilities -------------------------------------------------------------------------------

TEST(KvmCapabilities, EachMissingOneIsNamed) {
  FakeKvm like;
  for (const auto& [number, value] : like.capabilities) {
    if (number == KVM_CAP_NR_MEMSLOTS) continue;
    FakeKvm kvm;
    kvm.capabilities[number] = 0;
    const absl::Status status = Vm::Create(kvm).status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << number << ": " << status;
    EXPECT_NE(status.message().find("this KVM has no "), std::string::npos) << status;
    ExpectNothingLeft(kvm);
  }
}

TEST(KvmCapabilities, AnotherApiVersionIsRefused) {
  FakeKvm kvm;
  kvm.api_version = 11;
  EXPECT_TRUE(absl::IsUnimplemented(Vm::Create(kvm).status()));
}

TEST(KvmCapabilities, ARunAreaTooSmallForTheRegistersIsRefused) {
  FakeKvm kvm;
  kvm.run_area_size = sizeof(kvm_run) - 1;
  EXPECT_TRUE(absl::IsUnimplemented(Vm::Create(kvm).status()));
}

TEST(KvmCapabilities, AKvmThatTakesNotAllSystemCallMsrsIsRefused) {
  FakeKvm kvm;
  kvm.msrs_accepted = 2;
  Guest guest;
  auto engine = KvmEngine::Create(kvm, kHardware, guest.space, ProgramRing::kRing3);
  ASSERT_TRUE(engine.ok());
  EXPECT_TRUE(absl::IsUnimplemented((*engine)->CreateThread().status()));
}

// ---- page faults --------------------------------------------------------------------------------

struct Machine {
  explicit Machine(FakeKvm& kvm, Paging paging = Paging::kTwoDimensional)
      : vm(*Vm::Create(kvm)), mmu(*vm, guest.space, paging) {
    EXPECT_EQ(mmu.Initialize(), absl::OkStatus());
  }
  Guest guest;
  std::unique_ptr<Vm> vm;
  Mmu mmu;
};

constexpr std::uint64_t kWriteFault = dune::x86::page_fault::kWrite | dune::x86::page_fault::kUser;

TEST(KvmFaultInjection, APageFaultThatKvmHasNoSlotForFails) {
  GuestPages pages(1);
  for (const int reason : kReasons) {
    FakeKvm kvm;
    Machine machine(kvm);
    ASSERT_TRUE(EnterPages(machine.guest, pages).ok());
    kvm.FailFrom(1, reason);
    EXPECT_EQ(machine.mmu.Resolve(pages.address(), kWriteFault, BackingCheck::kAssume),
              Resolution::kFailed);
  }
}

TEST(KvmFaultInjection, APageFaultThatFailsOnceForMemoryStartsOverAndSucceeds) {
  GuestPages pages(1);
  FakeKvm kvm;
  Machine machine(kvm);
  ASSERT_TRUE(EnterPages(machine.guest, pages).ok());
  kvm.FailCall(1, ENOMEM);
  EXPECT_EQ(machine.mmu.Resolve(pages.address(), kWriteFault, BackingCheck::kAssume),
            Resolution::kMapped);
}

TEST(KvmFaultInjection, AFailedPageFaultCanBeRetried) {
  GuestPages pages(1);
  for (const int reason : {EINVAL, EPERM}) {
    FakeKvm kvm;
    Machine machine(kvm);
    ASSERT_TRUE(EnterPages(machine.guest, pages).ok());
    kvm.FailCall(1, reason);
    EXPECT_EQ(machine.mmu.Resolve(pages.address(), kWriteFault, BackingCheck::kAssume),
              Resolution::kFailed);
    EXPECT_EQ(machine.mmu.Resolve(pages.address(), kWriteFault, BackingCheck::kAssume),
              Resolution::kMapped);
  }
}

TEST(KvmMmu, RunsOutOfSlotsAndStartsOver) {
  FakeKvm kvm;
  // The arena's slots, the alias and three for the window.
  kvm.capabilities[KVM_CAP_NR_MEMSLOTS] = layout::kWindowSlot + 3;
  Machine machine(kvm);
  std::size_t most = 0;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t address = fakes::kTestWindow + round * (std::uint64_t{4} << 30);
    GuestPages pages(1, address);
    ASSERT_TRUE(EnterPages(machine.guest, pages).ok());
    EXPECT_EQ(machine.mmu.Resolve(address, kWriteFault, BackingCheck::kProbe), Resolution::kMapped);
    most = std::max(most, kvm.slots().size());
  }
  EXPECT_LE(most, 2u + 3u);
}

TEST(KvmMmu, TellsTheKindsOfFaultApart) {
  FakeKvm kvm;
  Machine machine(kvm);
  GuestPages pages(4);
  const std::uint64_t at = pages.address();
  const auto page = [&](int index, memory::Protection protection) {
    const GuestVirt start{at + index * kPageSize};
    machine.guest.space.AddSealed({start, start + kPageSize}, protection, "test");
  };
  page(0, {.read = true});
  page(1, {.read = true, .execute = true});
  page(2, {});
  namespace fault = dune::x86::page_fault;
  const auto resolve = [&](std::uint64_t address, std::uint64_t code) {
    return machine.mmu.Resolve(address, code | fault::kUser, BackingCheck::kAssume);
  };
  EXPECT_EQ(resolve(at, 0), Resolution::kMapped);
  EXPECT_EQ(resolve(at, fault::kWrite), Resolution::kForbidden);
  EXPECT_EQ(resolve(at, fault::kInstruction), Resolution::kForbidden);
  EXPECT_EQ(resolve(at + kPageSize, fault::kInstruction), Resolution::kMapped);
  EXPECT_EQ(resolve(at + kPageSize, fault::kWrite), Resolution::kForbidden);
  EXPECT_EQ(resolve(at + 2 * kPageSize, 0), Resolution::kForbidden);
  EXPECT_EQ(resolve(at + 3 * kPageSize, 0), Resolution::kNoMapping);
  EXPECT_EQ(resolve(0x4000'0000'0000, 0), Resolution::kNoMapping);
  EXPECT_EQ(resolve(0xffff'ff80'0000'0000, 0), Resolution::kNoMapping);
  EXPECT_EQ(resolve(~std::uint64_t{0}, 0), Resolution::kNoMapping);
}

}  // namespace
}  // namespace dunebox::kvm
