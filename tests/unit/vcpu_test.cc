// What a vCPU makes of each exit, and how it enters the guest again; KVM_RUN is scripted.
#include "runtime/kvm/vcpu.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libdune/ring0/image.h"
#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/layout.h"
#include "runtime/signals/host_signals.h"
#include "tests/fakes/fake_kvm.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::kvm {
namespace {

namespace x86 = dune::x86;
using runtime::EngineFailure;
using runtime::Exit;
using runtime::Fault;
using runtime::Interrupted;
using runtime::Registers;
using runtime::SystemCall;
using x86::Vector;

constexpr std::uint64_t kCode = fakes::kTestWindow;
constexpr std::uint64_t kUserFlags = x86::rflags::kReserved1 | x86::rflags::kInterrupt;
const Stubs kStubs = Stubs::At(layout::ArenaVirt(layout::kImageOffset));

enum class Stack { kTrap, kIst };

class VcpuTest : public ::testing::Test {
 protected:
  static constexpr Probe kHardware{.ring0 = Ring0::kNative,
                                   .syscall_entry = SyscallEntry::kRing0,
                                   .sysret_works = true};
  static constexpr Probe kOther{.ring0 = Ring0::kNative,
                                   .syscall_entry = SyscallEntry::kRing0};

  explicit VcpuTest(const Probe& probe = kHardware) : probe_(probe) {
    EXPECT_EQ(mmu_.Initialize(), absl::OkStatus());
    EXPECT_EQ(mmu_.WithTables([&](PageTables& tables) {
      return InstallSupervisor(*vm_, tables, ProgramRing::kRing3);
    }), absl::OkStatus());
    vcpu_ = std::move(*Vcpu::Create(*vm_, mmu_, probe_, /*index=*/0, ProgramRing::kRing3));
    registers_.rip = kCode + 0x10;
    registers_.rsp = kCode + 0xf00;
  }

  static constexpr std::uint64_t kBlock = layout::kVcpuBlocksOffset;
  static constexpr std::uint64_t TopOf(Stack stack) {
    return stack == Stack::kTrap ? layout::kBlockTrapStackTop : layout::kBlockIstStackTop;
  }
  static std::uint64_t FrameAddress(Stack stack = Stack::kTrap) {
    return layout::ArenaVirt(kBlock + TopOf(stack)).value - sizeof(abi::TrapFrame);
  }
  abi::TrapFrame& FrameOf(Stack stack = Stack::kTrap) {
    return *reinterpret_cast<abi::TrapFrame*>(vm_->arena(kBlock + TopOf(stack)) -
                                              sizeof(abi::TrapFrame));
  }

  // The next KVM_RUN ends with ring 3 in an exception.
  void ScriptTrap(Vector vector, std::uint64_t error_code, std::uint64_t cr2 = 0,
                  Stack stack = Stack::kTrap) {
    kvm_.ScriptRun([=, this](kvm_run& run) {
      Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
      FrameOf(stack) = {.vector = static_cast<std::uint64_t>(vector),
                        .error_code = error_code,
                        .rip = fault_rip_,
                        .cs = DUNE_SELECTOR_USER_CODE,
                        .rflags = kUserFlags,
                        .rsp = kCode + 0xe00,
                        .ss = DUNE_SELECTOR_USER_DATA};
      run.s.regs.regs.rsp = FrameAddress(stack);
      SetFaultAddress(run, cr2);
      return 0;
    });
  }
  // Where the CPU has it and, on hardware only, where the page_fault stub leaves it.
  void SetFaultAddress(kvm_run& run, std::uint64_t address) {
    run.s.regs.sregs.cr2 = address;
    if (!probe_.is_hardware()) return;
    std::memcpy(reinterpret_cast<std::byte*>(&FrameOf()) - DUNE_FAULT_ADDRESS_BELOW, &address,
                sizeof(address));
  }
  void ScriptSyscall(std::uint64_t rcx, std::uint64_t r11 = kUserFlags) {
    kvm_.ScriptRun([=](kvm_run& run) {
      Out(run, DUNE_PORT_SYSCALL, kStubs.syscall_entry);
      run.s.regs.regs.rax = 39;
      run.s.regs.regs.rcx = rcx;
      run.s.regs.regs.r11 = r11;
      run.s.regs.regs.rsp = kCode + 0xd00;
      return 0;
    });
  }
  // The next KVM_RUN is interrupted at `rip`.
  void ScriptInterrupted(int privilege, std::uint64_t rip, int result = -EINTR) {
    kvm_.ScriptRun([=](kvm_run& run) {
      SetPrivilege(run, privilege);
      run.exit_reason = KVM_EXIT_INTR;
      run.s.regs.regs.rip = rip;
      return result;
    });
  }
  // Only looks at how the guest was entered, then ends in ring 3 by a signal.
  void ScriptLook(std::function<void(const kvm_run&)> look) {
    kvm_.ScriptRun([look = std::move(look)](kvm_run& run) {
      look(run);
      SetPrivilege(run, 3);
      run.s.regs.regs.rip = kCode + 0x10;
      return -EINTR;
    });
  }
  static void SetPrivilege(kvm_run& run, int privilege) {
    run.s.regs.sregs.cs.selector = static_cast<std::uint16_t>(
        privilege == 0 ? DUNE_SELECTOR_KERNEL_CODE : DUNE_SELECTOR_USER_CODE);
  }
  static void Out(kvm_run& run, std::uint16_t port, GuestVirt stub) {
    SetPrivilege(run, 0);
    run.exit_reason = KVM_EXIT_IO;
    run.io.direction = KVM_EXIT_IO_OUT;
    run.io.port = port;
    run.s.regs.regs.rip = stub.value + 2;
  }

  template <typename T>
  T RunTo() {
    Exit exit = vcpu_->Run(registers_);
    T* wanted = std::get_if<T>(&exit);
    if (wanted == nullptr) {
      std::string reason = "another exit: " + std::to_string(exit.index());
      if (auto* failure = std::get_if<EngineFailure>(&exit)) reason = failure->reason;
      ADD_FAILURE() << reason;
      return T{};
    }
    return *wanted;
  }
  // Ring 0 after a system call of the guest.
  void MakeSyscall() {
    registers_.rip = kCode;
    ScriptSyscall(kCode + 0x42);
    RunTo<SystemCall>();
  }

  fakes::FakeKvm kvm_;
  hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  memory::AddressSpace space_{memory_, fakes::TestLayout()};
  const Probe probe_;
  std::unique_ptr<Vm> vm_ = std::move(*Vm::Create(kvm_));
  Mmu mmu_{*vm_, space_, Paging::kTwoDimensional};
  std::unique_ptr<Vcpu> vcpu_;
  Registers registers_;
  std::uint64_t fault_rip_ = kCode + 0x20;
};

// ---- faults -------------------------------------------------------------------------------------

TEST_F(VcpuTest, ATrapFrameBecomesTheFault) {
  for (const Vector vector :
       {Vector::kDivideError, Vector::kDebug, Vector::kBreakpoint, Vector::kOverflow,
        Vector::kBoundRange, Vector::kInvalidOpcode, Vector::kSegmentNotPresent,
        Vector::kStackFault, Vector::kGeneralProtection, Vector::kFloatingPoint,
        Vector::kAlignmentCheck, Vector::kSimdFloatingPoint}) {
    for (const Stack stack : {Stack::kTrap, Stack::kIst}) {
      ScriptTrap(vector, 0x18, 0, stack);
      const auto fault = RunTo<Fault>();
      EXPECT_EQ(fault.vector, vector);
      EXPECT_EQ(fault.error_code, 0x18u);
      EXPECT_EQ(fault.address, 0u);
      EXPECT_FALSE(fault.memory_error);
      EXPECT_EQ(registers_.rip, fault_rip_);
      EXPECT_EQ(registers_.rsp, kCode + 0xe00);
      EXPECT_EQ(registers_.rflags, kUserFlags);
    }
  }
}

TEST_F(VcpuTest, GeneralRegistersAndBasesGoInAndComeOut) {
  Registers in = registers_;
  in.rax = 1, in.rbx = 2, in.rcx = 3, in.rdx = 4, in.rsi = 5, in.rdi = 6, in.rbp = 7;
  in.r8 = 8, in.r9 = 9, in.r10 = 10, in.r11 = 11, in.r12 = 12, in.r13 = 13, in.r14 = 14;
  in.r15 = 15, in.fs_base = 0x1'2345'6000, in.gs_base = 0x1'2345'7000;
  registers_ = in;
  ScriptInterrupted(3, in.rip);
  RunTo<Interrupted>();  // now stopped in ring 3
  registers_ = in;
  kvm_.ScriptRun([&](kvm_run& run) {
    const kvm_regs& regs = run.s.regs.regs;
    EXPECT_EQ(run.kvm_dirty_regs & KVM_SYNC_X86_REGS, std::uint64_t{KVM_SYNC_X86_REGS});
    const std::uint64_t seen[] = {regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi,
                                  regs.rdi, regs.rbp, regs.r8,  regs.r9,  regs.r10,
                                  regs.r11, regs.r12, regs.r13, regs.r14, regs.r15};
    for (std::uint64_t i = 0; i < std::size(seen); ++i) EXPECT_EQ(seen[i], i + 1);
    EXPECT_EQ(regs.rip, in.rip);
    EXPECT_EQ(regs.rsp, in.rsp);
    EXPECT_EQ(regs.rflags, kUserFlags);
    EXPECT_EQ(run.s.regs.sregs.fs.base, in.fs_base);
    EXPECT_EQ(run.s.regs.sregs.gs.base, in.gs_base);
    return -EINTR;
  });
  RunTo<Interrupted>();
  EXPECT_EQ(registers_.rax, in.rax);
  EXPECT_EQ(registers_.r15, in.r15);
  EXPECT_EQ(registers_.rip, in.rip);
  EXPECT_EQ(registers_.rsp, in.rsp);
  EXPECT_EQ(registers_.fs_base, in.fs_base);
  EXPECT_EQ(registers_.gs_base, in.gs_base);
}

TEST_F(VcpuTest, SegmentRegistersAreWrittenOnlyWhenABaseChanges) {
  registers_.fs_base = 0x7000;
  ScriptLook([](const kvm_run& run) { EXPECT_NE(run.kvm_dirty_regs & KVM_SYNC_X86_SREGS, 0u); });
  RunTo<Interrupted>();
  registers_.rip = kCode;
  ScriptLook([](const kvm_run& run) { EXPECT_EQ(run.kvm_dirty_regs & KVM_SYNC_X86_SREGS, 0u); });
  RunTo<Interrupted>();
}

// The program can change them without a call: what an earlier exit showed is worth nothing.
TEST_F(VcpuTest, BasesAreExactOnceFetchedAndNotWrittenBefore) {
  const auto change_base = [](std::uint64_t base) {
    return [base](kvm_run& run) {
      EXPECT_EQ(run.kvm_dirty_regs & KVM_SYNC_X86_SREGS, 0u);
      run.s.regs.sregs.fs.base = base;
      Out(run, DUNE_PORT_SYSCALL, kStubs.syscall_entry);
      run.s.regs.regs.rcx = kCode;
      return 0;
    };
  };
  kvm_.ScriptRun(change_base(0x7000));
  kvm_.ScriptRun(change_base(0x8000));
  RunTo<SystemCall>();
  RunTo<SystemCall>();
  EXPECT_EQ(vcpu_->FetchBases(registers_), absl::OkStatus());
  EXPECT_EQ(registers_.fs_base, 0x8000u);
  registers_.fs_base = 0x9000;
  ScriptLook([](const kvm_run& run) { EXPECT_EQ(run.s.regs.sregs.fs.base, 0x9000u); });
  RunTo<Interrupted>();
  // Interrupted on the way back, where `registers` is kept: but not these.
  registers_.rip = kCode;
  kvm_.ScriptRun(change_base(0xa000));
  RunTo<SystemCall>();
  ScriptInterrupted(0, kStubs.syscall_return.value);
  RunTo<Interrupted>();
  ScriptLook([](const kvm_run& run) { EXPECT_EQ(run.s.regs.sregs.fs.base, 0xa000u); });
  RunTo<Interrupted>();
}

TEST_F(VcpuTest, OnHardwareAHypercallIsKnownByItsPlaceOnly) {
  fakes::GuestPages pages(1);
  // OUT at the place of a stub is ring 0's; anywhere else its privilege is asked for.
  kvm_.ScriptRun([](kvm_run& run) {
    Out(run, DUNE_PORT_SYSCALL, GuestVirt{kCode + 0x80});
    SetPrivilege(run, 3);
    return 0;
  });
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kGeneralProtection);
  kvm_.ScriptRun([](kvm_run& run) {
    Out(run, DUNE_PORT_SYSCALL, kStubs.trap_out);
    return 0;
  });
  EXPECT_NE(RunTo<EngineFailure>().reason.find("unauthentic hypercall"), std::string::npos);
}

class OtherVcpuTest : public VcpuTest {
 protected:
  OtherVcpuTest() : VcpuTest(kOther) {}
};

TEST_F(OtherVcpuTest, EveryExitBringsTheSystemRegisters) {
  kvm_.ScriptRun([](kvm_run& run) {
    EXPECT_NE(run.kvm_valid_regs & KVM_SYNC_X86_SREGS, 0u);
    run.s.regs.sregs.fs.base = 0x7000;
    Out(run, DUNE_PORT_SYSCALL, kStubs.syscall_entry);
    return 0;
  });
  RunTo<SystemCall>();
  EXPECT_EQ(registers_.fs_base, 0x7000u);
  // There ring 3 may be anywhere, also at a stub.
  fakes::GuestPages pages(1);
  kvm_.ScriptRun([](kvm_run& run) {
    Out(run, DUNE_PORT_SYSCALL, GuestVirt{kCode + 0x80});
    SetPrivilege(run, 3);
    return 0;
  });
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kGeneralProtection);
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser, 0x1234'5000);
  EXPECT_EQ(RunTo<Fault>().address, 0x1234'5000u);
}

TEST_F(VcpuTest, AFrameOfRing0OrAtAnotherStackEndsTheEngine) {
  kvm_.ScriptRun([this](kvm_run& run) {
    Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
    FrameOf() = {.vector = 13,
                 .error_code = 0,
                 .rip = kStubs.trap_return.value,
                 .cs = DUNE_SELECTOR_KERNEL_CODE};
    run.s.regs.regs.rsp = FrameAddress();
    return 0;
  });
  EXPECT_NE(RunTo<EngineFailure>().reason.find("exception 13"), std::string::npos);
  kvm_.ScriptRun([](kvm_run& run) {
    Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
    run.s.regs.regs.rsp = FrameAddress() - 8;
    return 0;
  });
  EXPECT_NE(RunTo<EngineFailure>().reason.find("unexpected stack"), std::string::npos);
}

TEST_F(VcpuTest, AFailedExitEndsTheEngine) {
  kvm_.ScriptRun([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
  });
  EXPECT_NE(RunTo<EngineFailure>().reason.find("triple fault"), std::string::npos);
  kvm_.ScriptRun([](kvm_run&) { return -EINVAL; });
  EXPECT_NE(RunTo<EngineFailure>().reason.find("Invalid argument"), std::string::npos);
}

// ---- page faults --------------------------------------------------------------------------------

TEST_F(VcpuTest, APageFaultIsResolvedOrReportedWithItsKind) {
  fakes::GuestPages pages(2);
  space_.AddSealed({GuestVirt{kCode}, GuestVirt{kCode + kPageSize}}, {.read = true}, "test");
  namespace fault = x86::page_fault;
  // Nothing there: not present, whatever the CPU saw.
  ScriptTrap(Vector::kPageFault, fault::kUser | fault::kPresent, kCode + kPageSize + 8);
  auto exit = RunTo<Fault>();
  EXPECT_EQ(exit.vector, Vector::kPageFault);
  EXPECT_EQ(exit.address, kCode + kPageSize + 8);
  EXPECT_EQ(exit.error_code, fault::kUser);
  // Forbidden: present, although the table may be empty still.
  ScriptTrap(Vector::kPageFault, fault::kUser | fault::kWrite, kCode + 8);
  exit = RunTo<Fault>();
  EXPECT_EQ(exit.error_code, fault::kUser | fault::kWrite | fault::kPresent);
  // Allowed: the guest goes on by itself, and what comes next is reported.
  ScriptTrap(Vector::kPageFault, fault::kUser, kCode + 8);
  ScriptTrap(Vector::kDivideError, 0);
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kDivideError);
  EXPECT_EQ(kvm_.runs(), 4);
}

TEST_F(VcpuTest, APageFaultAtTheEntryIsASystemCall) {
  fault_rip_ = kStubs.syscall_entry.value;
  kvm_.ScriptRun([this](kvm_run& run) {
    Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
    FrameOf() = {.vector = 14,
                 .error_code = 0x15,
                 .rip = fault_rip_,
                 .cs = DUNE_SELECTOR_USER_CODE,
                 .rflags = kUserFlags,
                 .rsp = kCode + 0xe00,
                 .ss = DUNE_SELECTOR_USER_DATA};
    run.s.regs.regs.rsp = FrameAddress();
    run.s.regs.regs.rcx = kCode + 0x42;
    run.s.regs.regs.r11 = kUserFlags | x86::rflags::kZero | x86::Bit(13);  // with IOPL
    SetFaultAddress(run, fault_rip_);
    return 0;
  });
  RunTo<SystemCall>();
  EXPECT_EQ(registers_.rip, kCode + 0x42);
  EXPECT_EQ(registers_.rsp, kCode + 0xe00);
  EXPECT_EQ(registers_.rflags, kUserFlags | x86::rflags::kZero);
  EXPECT_EQ(registers_.r11, registers_.rflags);
}

TEST_F(VcpuTest, ADataAccessToTheEntryIsNoSystemCall) {
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser, kStubs.syscall_entry.value);
  EXPECT_EQ(RunTo<Fault>().address, kStubs.syscall_entry.value);
}

// ---- system calls and the ways back -------------------------------------------------------------

TEST_F(VcpuTest, ASystemCallLeavesTheRegistersAsLinuxHasThem) {
  ScriptSyscall(kCode + 0x42, kUserFlags | x86::rflags::kCarry);
  RunTo<SystemCall>();
  EXPECT_EQ(registers_.rax, 39u);
  EXPECT_EQ(registers_.rip, kCode + 0x42);
  EXPECT_EQ(registers_.rcx, registers_.rip);
  EXPECT_EQ(registers_.rflags, kUserFlags | x86::rflags::kCarry);
  EXPECT_EQ(registers_.rsp, kCode + 0xd00);
}

struct Change {
  const char* what;
  std::function<void(Registers&)> apply;
  bool sysret;
};

TEST_F(VcpuTest, ReturnsBySysretOnlyWhenNothingWouldBeLost) {
  const Change changes[] = {
      {"nothing", [](Registers&) {}, true},
      {"result", [](Registers& r) { r.rax = 7; }, true},
      {"rip", [](Registers& r) { r.rip += 1; }, false},
      {"rcx", [](Registers& r) { r.rcx += 1; }, false},
      {"rip and rcx", [](Registers& r) { r.rip = r.rcx = kCode; }, true},
      {"rflags", [](Registers& r) { r.rflags |= x86::rflags::kCarry; }, false},
      {"r11", [](Registers& r) { r.r11 |= x86::rflags::kCarry; }, false},
      {"trap flag", [](Registers& r) { r.rflags = r.r11 |= x86::rflags::kTrap; }, false},
      {"resume flag", [](Registers& r) { r.rflags = r.r11 |= x86::rflags::kResume; }, false},
  };
  for (const Change& change : changes) {
    SCOPED_TRACE(change.what);
    MakeSyscall();
    change.apply(registers_);
    const Registers wanted = registers_;
    ScriptLook([&](const kvm_run& run) {
      const kvm_regs& regs = run.s.regs.regs;
      EXPECT_EQ(regs.rflags, x86::rflags::kReserved1);
      EXPECT_EQ(regs.rcx, wanted.rcx);
      EXPECT_EQ(regs.r11, wanted.r11);
      if (change.sysret) {
        EXPECT_EQ(regs.rip, kStubs.syscall_return.value);
        EXPECT_EQ(regs.rsp, wanted.rsp);
        return;
      }
      EXPECT_EQ(regs.rip, kStubs.trap_return.value);
      EXPECT_EQ(regs.rsp, FrameAddress());
      EXPECT_EQ(FrameOf().rip, wanted.rip);
      EXPECT_EQ(FrameOf().rsp, wanted.rsp);
      EXPECT_EQ(FrameOf().rflags, wanted.rflags);
      EXPECT_EQ(FrameOf().cs, std::uint64_t{DUNE_SELECTOR_USER_CODE});
      EXPECT_EQ(FrameOf().ss, std::uint64_t{DUNE_SELECTOR_USER_DATA});
    });
    RunTo<Interrupted>();
  }
}

TEST_F(VcpuTest, AfterATrapItReturnsByIretEvenWithSysretsRegisters) {
  MakeSyscall();
  ScriptTrap(Vector::kBreakpoint, 0);
  RunTo<Fault>();
  registers_.rcx = registers_.rip;
  registers_.r11 = registers_.rflags;
  ScriptLook([](const kvm_run& run) { EXPECT_EQ(run.s.regs.regs.rip, kStubs.trap_return.value); });
  RunTo<Interrupted>();
}

TEST_F(VcpuTest, ReturnsFromTheInterruptStackOverTheSameStack) {
  ScriptTrap(Vector::kDebug, 0, 0, Stack::kIst);
  RunTo<Fault>();
  ScriptLook([this](const kvm_run& run) {
    EXPECT_EQ(run.s.regs.regs.rsp, FrameAddress(Stack::kIst));
    EXPECT_EQ(FrameOf(Stack::kIst).rip, registers_.rip);
  });
  RunTo<Interrupted>();
}

TEST_F(VcpuTest, NoFlagThatGivesPowerReachesRing3) {
  const std::uint64_t all = ~std::uint64_t{0};
  registers_.rflags = all;
  ScriptLook([this](const kvm_run&) {
    EXPECT_EQ(FrameOf().rflags, x86::rflags::ForUser(~std::uint64_t{0}));
  });
  RunTo<Interrupted>();
  registers_.rflags = all;  // stopped in ring 3: written to the CPU directly
  ScriptLook([](const kvm_run& run) {
    EXPECT_EQ(run.s.regs.regs.rflags, x86::rflags::ForUser(~std::uint64_t{0}));
    const std::uint64_t iopl = run.s.regs.regs.rflags & (x86::Bit(12) | x86::Bit(13));
    EXPECT_EQ(iopl, 0u);
  });
  RunTo<Interrupted>();
}

TEST_F(VcpuTest, ANonCanonicalAddressNeverEntersTheGuest) {
  for (const std::uint64_t rip :
       {std::uint64_t{1} << 47, std::uint64_t{1} << 63, std::uint64_t{0xffff'7fff'ffff'ffff},
        std::uint64_t{0xffff'8000'0000'0000}, kStubs.syscall_return.value, ~std::uint64_t{0}}) {
    MakeSyscall();
    const int before = kvm_.runs();
    registers_.rip = registers_.rcx = rip;
    const auto fault = RunTo<Fault>();
    EXPECT_EQ(fault.vector, Vector::kGeneralProtection) << std::hex << rip;
    EXPECT_EQ(fault.error_code, 0u);
    EXPECT_EQ(kvm_.runs(), before) << std::hex << rip;
    EXPECT_EQ(registers_.rip, rip);
  }
}

// ---- interruptions ------------------------------------------------------------------------------

TEST_F(VcpuTest, InterruptedInRing3TheRegistersAreTheCpus) {
  for (const int result : {-EINTR, -EAGAIN, 0}) {
    ScriptInterrupted(3, kCode + 0x99, result);
    RunTo<Interrupted>();
    EXPECT_EQ(registers_.rip, kCode + 0x99);
  }
}

TEST_F(VcpuTest, InterruptedOnTheWayBackNothingHasHappened) {
  const std::uint64_t windows[][2] = {
      {kStubs.trap_return.value, kStubs.trap_return_end.value},
      {kStubs.syscall_return.value, kStubs.syscall_return_end.value}};
  for (const auto& [start, end] : windows) {
    for (std::uint64_t rip = start; rip < end; ++rip) {
      MakeSyscall();
      const Registers before = registers_;
      kvm_.ScriptRun([rip](kvm_run& run) {
        SetPrivilege(run, 0);
        run.s.regs.regs.rip = rip;
        run.s.regs.regs.rcx = 0xdead;  // what a half-executed stub may leave
        run.s.regs.regs.rsp = 0xdead;
        return -EINTR;
      });
      RunTo<Interrupted>();
      EXPECT_EQ(registers_.rip, before.rip);
      EXPECT_EQ(registers_.rcx, before.rcx);
      EXPECT_EQ(registers_.rsp, before.rsp);
      // The next entry starts from ring 0 again.
      ScriptLook(
          [](const kvm_run& run) { EXPECT_EQ(run.s.regs.regs.rip, kStubs.syscall_return.value); });
      RunTo<Interrupted>();
    }
  }
}

TEST_F(VcpuTest, InterruptedOnTheWayInRunsOnToTheHypercall) {
  const std::uint64_t vectors = layout::ArenaVirt(dune::Ring0Header().vectors).value;
  const std::uint64_t ways_in[] = {vectors, vectors + 14 * DUNE_VECTOR_STRIDE + 2,
                                   kStubs.trap_out.value, kStubs.syscall_entry.value};
  for (const std::uint64_t rip : ways_in) {
    vcpu_->Kick();
    vcpu_->Unkick();
    kvm_.ScriptRun([rip, this](kvm_run& run) {
      SetPrivilege(run, 0);
      run.s.regs.regs.rip = rip;
      vcpu_->Kick();  // the signal that interrupts
      return -EINTR;
    });
    ScriptTrap(Vector::kDivideError, 0);
    EXPECT_EQ(RunTo<Fault>().vector, Vector::kDivideError) << std::hex << rip;
  }
}

// Ring 0 answers calls by itself there. What a signal finds half done is finished, and comes out by
// a hypercall of its own.
TEST_F(VcpuTest, InterruptedWhileRing0AnswersItIsToldToLeave) {
  const auto& state =
      *reinterpret_cast<const abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const std::uint64_t test = kStubs.quick_test.value;
  // Where it is interrupted, and where it goes on.
  const std::pair<std::uint64_t, std::uint64_t> places[] = {
      {kStubs.quick_entry.value, kStubs.quick_entry.value}, {test, test}, {test + 5, test}};
  for (const auto& [rip, resumed] : places) {
    kvm_.ScriptRun([rip = rip, this](kvm_run& run) {
      SetPrivilege(run, 0);
      run.s.regs.regs.rip = rip;
      vcpu_->Kick();
      return -EINTR;
    });
    kvm_.ScriptRun([resumed = resumed, &state](kvm_run& run) {
      EXPECT_EQ(run.s.regs.regs.rip, resumed);
      EXPECT_EQ(state.interrupted, 1u);
      Out(run, DUNE_PORT_ANSWERED, kStubs.quick_out);
      run.s.regs.regs.rax = 4711;
      run.s.regs.regs.rcx = kCode + 0x42;
      run.s.regs.regs.r11 = kUserFlags;
      run.s.regs.regs.rsp = kCode + 0xd00;
      return 0;
    });
    RunTo<Interrupted>();
    EXPECT_EQ(registers_.rax, 4711u);
    EXPECT_EQ(registers_.rip, kCode + 0x42);
    EXPECT_EQ(registers_.rsp, kCode + 0xd00);
    EXPECT_EQ(registers_.rflags, kUserFlags);
    // The next entry forgets it.
    ScriptLook([&state](const kvm_run&) { EXPECT_EQ(state.interrupted, 0u); });
    RunTo<Interrupted>();
  }
}

TEST_F(VcpuTest, InterruptedAtTheEndOfAnAnswerTheCallIsOver) {
  kvm_.ScriptRun([](kvm_run& run) {
    SetPrivilege(run, 0);
    run.s.regs.regs.rip = kStubs.quick_sysret.value;
    run.s.regs.regs.rax = 4711;
    run.s.regs.regs.rcx = kCode + 0x42;
    run.s.regs.regs.r11 = kUserFlags;
    run.s.regs.regs.rsp = kCode + 0xd00;
    return -EINTR;
  });
  RunTo<Interrupted>();
  EXPECT_EQ(registers_.rax, 4711u);
  EXPECT_EQ(registers_.rip, kCode + 0x42);
  EXPECT_EQ(registers_.rsp, kCode + 0xd00);
}

TEST_F(VcpuTest, KnowsAsManyAnswersAsThereIsRoomForAndNoOthers) {
  const auto& state =
      *reinterpret_cast<const abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  std::vector<runtime::KnownAnswer> answers = {{.number = 1000, .result = 1}};
  for (std::uint16_t i = 0; i < 40; ++i) answers.push_back({.number = i, .result = i / 2});
  vcpu_->KnowAnswers(answers);
  int known = 0;
  for (std::uint16_t i = 0; i < DUNE_QUICK_NUMBERS; ++i) {
    if (state.answer_of[i] == 0) continue;
    ++known;
    EXPECT_EQ(state.answers[state.answer_of[i]], static_cast<std::uint64_t>(i / 2));
  }
  EXPECT_EQ(known, 30);  // fifteen results, two numbers each
  vcpu_->KnowAnswers({});
  for (const std::uint8_t place : state.answer_of) EXPECT_EQ(place, 0);
}

TEST_F(VcpuTest, RoutinesAndAllNumbersBeyondHaveEntriesOfTheirOwn) {
  const auto& state =
      *reinterpret_cast<const abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const runtime::KnownAnswer answers[] = {
      {.number = 14, .answer = runtime::Answer::kSignalMask},
      {.number = 24, .answer = runtime::Answer::kYield},
      {.number = 218, .answer = runtime::Answer::kChildTid, .result = 4711},
      {.number = 273, .answer = runtime::Answer::kRobustList},
      {.number = runtime::kNumbersFromHere, .result = -ENOSYS}};
  vcpu_->KnowAnswers(answers);
  EXPECT_EQ(state.answer_of[14], DUNE_QUICK_SIGNAL_MASK);
  EXPECT_EQ(state.answer_of[24], DUNE_QUICK_YIELD);
  EXPECT_EQ(state.answer_of[218], DUNE_QUICK_CHILD_TID);
  EXPECT_EQ(state.answer_of[273], DUNE_QUICK_ROBUST_LIST);
  EXPECT_EQ(state.thread_id, 4711u);
  EXPECT_EQ(state.answers[state.answer_of[DUNE_QUICK_NUMBERS]],
            static_cast<std::uint64_t>(std::int64_t{-ENOSYS}));
}

// ---- state that ring 0 keeps ---------------------------------------------------------------------

TEST_F(VcpuTest, WhateverRing0MakesOfTheMaskItStaysWithinWhatWasLent) {
  auto& state = *reinterpret_cast<abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const runtime::OwnState lent{.signal_mask = 0b0011,
                               .addable_signals = 0b1100,
                               .clear_child_tid = 0x1000,
                               .robust_list = 0x2000};
  vcpu_->Lend(lent);
  EXPECT_EQ(state.mask, 0b0011u);
  EXPECT_EQ(state.mask_least, 0b0011u);
  EXPECT_EQ(state.mask_most, 0b1111u);
  EXPECT_EQ(vcpu_->TakeBack().signal_mask, 0b0011u);
  state.mask = 0b0111;
  EXPECT_EQ(vcpu_->TakeBack().signal_mask, 0b0111u);
  // Forged, with the bounds as well.
  state.mask_least = 0;
  state.mask_most = ~std::uint64_t{0};
  state.mask = ~std::uint64_t{0};
  EXPECT_EQ(vcpu_->TakeBack().signal_mask, 0b1111u);
  state.mask = 0;
  EXPECT_EQ(vcpu_->TakeBack().signal_mask, 0b0011u);
  EXPECT_EQ(vcpu_->TakeBack().clear_child_tid, 0x1000u);
  EXPECT_EQ(vcpu_->TakeBack().robust_list, 0x2000u);
}

TEST_F(VcpuTest, AnAlternateStackIsBelievedOnlyAsSigaltstackMakesIt) {
  auto& state = *reinterpret_cast<abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const abi::AlternateStack lent{.base = 0x5000, .flags = 0, .padding = 0, .size = 0x4000};
  vcpu_->Lend({.alternate_stack = lent});
  EXPECT_EQ(state.alternate_stack, lent);
  EXPECT_EQ(vcpu_->TakeBack().alternate_stack, lent);
  const abi::AlternateStack possible[] = {
      {}, {.base = ~std::uint64_t{0}, .flags = 0, .padding = 0, .size = DUNE_MINIMUM_SIGNAL_STACK}};
  for (const abi::AlternateStack& stack : possible) {
    state.alternate_stack = stack;
    EXPECT_EQ(vcpu_->TakeBack().alternate_stack, stack);
  }
  const abi::AlternateStack forged[] = {
      {.base = 0x5000, .flags = 0, .padding = 0, .size = DUNE_MINIMUM_SIGNAL_STACK - 1},
      {.base = 0x5000, .flags = SS_ONSTACK, .padding = 0, .size = 0x4000},
      {.base = 0x5000, .flags = SS_DISABLE, .padding = 0, .size = 0x4000},
      {.base = 0x5000, .flags = std::int32_t{1} << 31, .padding = 0, .size = 0x4000},
      {.base = 0x5000, .flags = 0, .padding = 1, .size = 0x4000}};
  for (const abi::AlternateStack& stack : forged) {
    state.alternate_stack = stack;
    EXPECT_EQ(vcpu_->TakeBack().alternate_stack, lent);
  }
}

TEST_F(VcpuTest, HandlersAreReplacedOnlyWhereTheyAreLent) {
  auto& state = *reinterpret_cast<abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  EXPECT_EQ(reinterpret_cast<std::byte*>(vcpu_->signal_actions()),
            vm_->arena(layout::kActionsOffset));
  vcpu_->Lend({.lends_actions = true});
  EXPECT_EQ(state.actions, layout::ArenaVirt(layout::kActionsOffset).value);
  EXPECT_EQ(vcpu_->TakeBack().replaced_actions, 0u);
  state.changed_actions = 0b101;
  EXPECT_EQ(vcpu_->TakeBack().replaced_actions, 0b101u);
  vcpu_->Lend({});
  EXPECT_EQ(state.actions, 0u);
  EXPECT_EQ(state.changed_actions, 0u);
  state.changed_actions = ~std::uint64_t{0};  // forged
  EXPECT_EQ(vcpu_->TakeBack().replaced_actions, 0u);
}

TEST_F(VcpuTest, ClocksAreRing0sOnceItHasTheirCode) {
  const auto& state =
      *reinterpret_cast<const abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const runtime::KnownAnswer clock[] = {{.number = 228, .answer = runtime::Answer::kClock}};
  vcpu_->KnowAnswers(clock);
  EXPECT_EQ(state.answer_of[228], 0);
  const std::vector<std::byte> code(100, std::byte{0xc3});
  const std::vector<std::byte> much(layout::kMostClockCode + 1);
  EXPECT_EQ(mmu_.ShowClock(much, 0), absl::OkStatus());
  EXPECT_EQ(mmu_.clock_entry().value, 0u);
  EXPECT_EQ(mmu_.ShowClock(code, 16), absl::OkStatus());
  vcpu_->KnowAnswers(clock);
  EXPECT_EQ(state.answer_of[228], DUNE_QUICK_CLOCK);
  EXPECT_EQ(state.clock, layout::ArenaVirt(layout::kClockCodeOffset + 16).value);
  EXPECT_EQ(*vm_->arena(layout::kClockCodeOffset + 99), std::byte{0xc3});
}

TEST_F(VcpuTest, WaitersAreCountedWhereRing0LooksForThem) {
  const auto& waits =
      *reinterpret_cast<const abi::FutexWaits*>(vm_->arena(layout::kFutexWaitsOffset));
  const std::uint64_t word = kCode + 0x1234;
  const std::uint32_t& count = waits.counts[(word >> DUNE_FUTEX_SHIFT) % DUNE_FUTEX_BUCKETS];
  vcpu_->BeginFutex(runtime::FutexUse::kWait, word);
  vcpu_->BeginFutex(runtime::FutexUse::kWait, word);
  EXPECT_EQ(count, 2u);
  vcpu_->EndFutex(runtime::FutexUse::kWait, word);
  vcpu_->EndFutex(runtime::FutexUse::kWait, word);
  EXPECT_EQ(count, 0u);
  EXPECT_EQ(waits.irregular, 0u);
  vcpu_->BeginFutex(runtime::FutexUse::kIrregular, word);
  vcpu_->EndFutex(runtime::FutexUse::kIrregular, word);
  EXPECT_EQ(waits.irregular, 1u);
  EXPECT_EQ(count, 0u);
}

TEST_F(VcpuTest, AFaultInARoutineIsMappedOrMakesTheCallTheHosts) {
  fakes::GuestPages pages(2);
  space_.AddSealed({GuestVirt{kCode}, GuestVirt{kCode + kPageSize}}, {.read = true}, "test");
  const std::uint64_t place = kStubs.quick_routines.value + 0x20;
  const auto script_fault = [&](std::uint64_t address, std::uint64_t code) {
    kvm_.ScriptRun([=, this](kvm_run& run) {
      Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
      FrameOf() = {.vector = 14,
                   .error_code = code,
                   .rip = place,
                   .cs = DUNE_SELECTOR_KERNEL_CODE,
                   .rflags = x86::rflags::kReserved1 | DUNE_RFLAGS_ACCESS,
                   .rsp = 0xdead,
                   .ss = DUNE_SELECTOR_KERNEL_DATA};
      run.s.regs.regs.rsp = FrameAddress();
      SetFaultAddress(run, address);
      return 0;
    });
  };
  struct Case {
    std::uint64_t address, code, resumed;
  };
  const Case cases[] = {
      {kCode + 8, 0, place},                                                  // to be mapped
      {kCode + 8, x86::page_fault::kWrite, kStubs.quick_retreat.value},       // read-only
      {kCode + 8, 0, kStubs.quick_retreat.value},                             // was there already
      {kCode + kPageSize, 0, kStubs.quick_retreat.value},                     // nothing there
      {layout::ArenaVirt(0).value, 0, kStubs.quick_retreat.value}};           // never asked for
  for (const Case& one : cases) {
    script_fault(one.address, one.code);
    kvm_.ScriptRun([&](kvm_run& run) {
      EXPECT_EQ(run.s.regs.regs.rip, one.resumed) << std::hex << one.address;
      EXPECT_EQ(run.s.regs.regs.rsp, FrameAddress() + sizeof(abi::TrapFrame));
      EXPECT_EQ(run.s.regs.regs.rflags, x86::rflags::kReserved1 | DUNE_RFLAGS_ACCESS);
      EXPECT_EQ(run.kvm_dirty_regs, std::uint64_t{KVM_SYNC_X86_REGS});
      Out(run, DUNE_PORT_SYSCALL, kStubs.syscall_entry);
      run.s.regs.regs.rcx = kCode + 0x42;
      return 0;
    });
    registers_.rip = kCode;
    RunTo<SystemCall>();
    EXPECT_EQ(registers_.rip, kCode + 0x42);
  }
}

TEST_F(VcpuTest, InterruptedInRing3AtTheEntryRunsOnToItsPageFault) {
  ScriptInterrupted(3, kStubs.syscall_entry.value);
  fault_rip_ = kStubs.syscall_entry.value;
  ScriptTrap(Vector::kPageFault, 0x15, fault_rip_);
  RunTo<SystemCall>();
}

TEST_F(VcpuTest, AKickBeforeTheRunLeavesTheRegistersAlone) {
  MakeSyscall();
  const Registers before = registers_;
  const int runs = kvm_.runs();
  vcpu_->Kick();
  RunTo<Interrupted>();
  EXPECT_EQ(kvm_.runs(), runs + 1);
  EXPECT_EQ(registers_.rip, before.rip);
  EXPECT_EQ(registers_.rsp, before.rsp);
  EXPECT_EQ(registers_.rflags, before.rflags);
  vcpu_->Unkick();
  ScriptLook([](const kvm_run& run) { EXPECT_EQ(run.immediate_exit, 0); });
  RunTo<Interrupted>();
}

// ---- memory that is not there -------------------------------------------------------------------

TEST_F(VcpuTest, MemoryPastTheEndOfAFileIsDroppedAndReportedAsABusError) {
  signals::InstallFaultHandlers();
  const int file = memfd_create("test", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(file, 2 * kPageSize), 0);
  const auto at = space_.Map({.address = kCode,
                              .length = 2 * kPageSize,
                              .prot = PROT_READ | PROT_WRITE,
                              .flags = MAP_SHARED | MAP_FIXED,
                              .fd = file,
                              .offset = 0});
  ASSERT_EQ(at.ToRegister(), kCode);
  // Both pages become present, then the file shrinks.
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser | x86::page_fault::kWrite, kCode);
  kvm_.ScriptRun([file](kvm_run& run) {
    EXPECT_EQ(ftruncate(file, kPageSize), 0);
    SetPrivilege(run, 3);
    run.s.regs.regs.rip = kCode + 0x33;
    return -EFAULT;
  });
  // The repaired guest faults at the exact address.
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser, kCode + kPageSize + 0x18);
  const auto fault = RunTo<Fault>();
  EXPECT_TRUE(fault.memory_error);
  EXPECT_EQ(fault.address, kCode + kPageSize + 0x18);
  // The page that is still there stays mapped.
  int present = 0;
  mmu_.WithTables([&](const PageTables& tables) {
    tables.ForEachPresent({GuestVirt{kCode}, GuestVirt{kCode + 2 * kPageSize}}, [&](GuestVirt page) {
      ++present;
      EXPECT_EQ(page.value, kCode);
    });
  });
  EXPECT_EQ(present, 1);
  EXPECT_TRUE(space_.Unmap(kCode, 2 * kPageSize).ok());
  close(file);
}

TEST_F(VcpuTest, AMemoryErrorWithNothingToRepairIsRetriedButNotForever) {
  for (int i = 0; i < 3; ++i) {
    kvm_.ScriptRun([](kvm_run&) { return -EFAULT; });
  }
  ScriptTrap(Vector::kDivideError, 0);
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kDivideError);
  for (int i = 0; i < 20'000; ++i) {
    kvm_.ScriptRun([](kvm_run&) { return -EFAULT; });
  }
  EXPECT_NE(RunTo<EngineFailure>().reason.find("cannot reach"), std::string::npos);
}

// ---- instructions that ring 3 must not have -----------------------------------------------------

TEST_F(VcpuTest, APortInstructionOfRing3IsAGeneralProtectionFaultAtIt) {
  fakes::GuestPages pages(1);
  pages.At<unsigned char>(0x80) = 0xe6;  // OUT imm8, AL
  pages.At<unsigned char>(0x81) = DUNE_PORT_SYSCALL;
  kvm_.ScriptRun([](kvm_run& run) {
    Out(run, DUNE_PORT_SYSCALL, GuestVirt{kCode + 0x80});
    SetPrivilege(run, 3);
    return 0;
  });
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kGeneralProtection);
  EXPECT_EQ(registers_.rip, kCode + 0x80);
}

TEST_F(VcpuTest, HltInRing3IsAGeneralProtectionFaultAtIt) {
  kvm_.ScriptRun([](kvm_run& run) {
    SetPrivilege(run, 3);
    run.exit_reason = KVM_EXIT_HLT;
    run.s.regs.regs.rip = kCode + 0x81;
    return 0;
  });
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kGeneralProtection);
  EXPECT_EQ(registers_.rip, kCode + 0x80);
}

TEST_F(VcpuTest, WhatKvmCannotEmulateInRing3IsAnInvalidOpcode) {
  kvm_.ScriptRun([](kvm_run& run) {
    SetPrivilege(run, 3);
    run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run.internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    run.s.regs.regs.rip = kCode + 0x80;
    return 0;
  });
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kInvalidOpcode);
  EXPECT_EQ(registers_.rip, kCode + 0x80);
}

// ---- extended state -----------------------------------------------------------------------------

// ---- faults that ring 0 answers -----------------------------------------------------------------

// What a signal finds half done is finished, and comes out with the registers that ring 3 would have.
TEST_F(VcpuTest, InterruptedWhileRing0AnswersAFaultItIsToldToLeave) {
  const auto& state =
      *reinterpret_cast<const abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const std::uint64_t test = kStubs.fault_test.value;
  const std::uint64_t entry = kStubs.page_fault.value;
  // Where it is interrupted, and where it goes on.
  const std::pair<std::uint64_t, std::uint64_t> places[] = {
      {entry, entry}, {test - 1, test - 1}, {test, test}, {test + 8, test},
      {kStubs.fault_return.value, test}, {kStubs.fault_return.value + 2, kStubs.fault_return.value + 2}};
  for (const auto& [rip, resumed] : places) {
    kvm_.ScriptRun([rip = rip, this](kvm_run& run) {
      SetPrivilege(run, 0);
      run.s.regs.regs.rip = rip;
      vcpu_->Kick();
      return -EINTR;
    });
    kvm_.ScriptRun([resumed = resumed, &state, this](kvm_run& run) {
      EXPECT_EQ(run.s.regs.regs.rip, resumed);
      EXPECT_EQ(state.interrupted, 1u);
      Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
      FrameOf() = {.vector = DUNE_VECTOR_NONE,
                   .error_code = 0,
                   .rip = kCode + 0x77,
                   .cs = DUNE_SELECTOR_USER_CODE,
                   .rflags = kUserFlags,
                   .rsp = kCode + 0xe00,
                   .ss = DUNE_SELECTOR_USER_DATA};
      run.s.regs.regs.rsp = FrameAddress();
      run.s.regs.regs.rbx = 4711;
      return 0;
    });
    RunTo<Interrupted>();
    EXPECT_EQ(registers_.rip, kCode + 0x77) << std::hex << rip;
    EXPECT_EQ(registers_.rsp, kCode + 0xe00);
    EXPECT_EQ(registers_.rbx, 4711u);
  }
}

// The host fills in a page and would go on; but the signal that came on the way in is not forgotten.
TEST_F(VcpuTest, InterruptedWhileRing0CountsItIsToldToLeave) {
  const struct {
    std::uint64_t rip, then;
  } places[] = {{kStubs.step.value, kStubs.step.value},
                {kStubs.step_test.value, kStubs.step_test.value},
                {kStubs.step_test.value + 1, kStubs.step_test.value},
                {kStubs.step_return.value, kStubs.step_test.value},
                {kStubs.step_return.value + 2, kStubs.step_return.value + 2}};
  auto& state = *reinterpret_cast<abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  for (const auto& place : places) {
    registers_.rip = kCode;
    vcpu_->set_instructions_left(100);
    ScriptInterrupted(0, place.rip);
    kvm_.ScriptRun([&](kvm_run& run) {
      EXPECT_EQ(state.interrupted, 1u);
      EXPECT_EQ(run.s.regs.regs.rip, place.then);
      Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
      FrameOf(Stack::kIst) = {.vector = DUNE_VECTOR_NONE,
                              .error_code = 0,
                              .rip = fault_rip_,
                              .cs = DUNE_SELECTOR_USER_CODE,
                              .rflags = kUserFlags | x86::rflags::kTrap,
                              .rsp = kCode + 0xe00,
                              .ss = DUNE_SELECTOR_USER_DATA};
      run.s.regs.regs.rsp = FrameAddress(Stack::kIst);
      return 0;
    });
    RunTo<Interrupted>();
    EXPECT_EQ(registers_.rip, fault_rip_);
    EXPECT_EQ(registers_.rflags, kUserFlags);
    EXPECT_EQ(vcpu_->instructions_left(), 100);
  }
}

TEST_F(VcpuTest, CountedInstructionsRunWithTheTrapFlagAsLongAsSomeAreLeft) {
  auto& state = *reinterpret_cast<abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const auto is_trapped = [](const Registers& registers) { return (registers.rflags & x86::rflags::kTrap) != 0; };
  EXPECT_EQ(vcpu_->instructions_left(), runtime::kNoInstructionLimit);
  // A flag of the program's own is none of ours.
  registers_.rflags |= x86::rflags::kTrap;
  ScriptTrap(Vector::kDebug, 0, 0, Stack::kIst);
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kDebug);
  EXPECT_EQ(state.steps, 0);

  vcpu_->set_instructions_left(10);
  registers_.rip = kCode;
  kvm_.ScriptRun([&](kvm_run& run) {
    EXPECT_NE(FrameOf(Stack::kIst).rflags & x86::rflags::kTrap, 0u);
    state.steps = 7;
    Out(run, DUNE_PORT_SYSCALL, kStubs.syscall_entry);
    run.s.regs.regs.rcx = kCode + 0x42;
    run.s.regs.regs.r11 = kUserFlags | x86::rflags::kTrap;
    return 0;
  });
  RunTo<SystemCall>();
  EXPECT_FALSE(is_trapped(registers_));
  EXPECT_EQ(registers_.r11, registers_.rflags);
  EXPECT_EQ(vcpu_->instructions_left(), 6);  // SYSCALL is one
  // Ring 0 cannot have more than it was given.
  state.steps = 1'000;
  EXPECT_EQ(vcpu_->instructions_left(), 10);
  // Another fault is as ever, also when it came with the last one.
  const auto script_trap_with_none_left = [&](Vector vector, Stack stack) {
    kvm_.ScriptRun([&state, vector, stack, this](kvm_run& run) {
      state.steps = 0;
      Out(run, DUNE_PORT_TRAP, kStubs.trap_out);
      FrameOf(stack).vector = static_cast<std::uint64_t>(vector);
      FrameOf(stack).cs = DUNE_SELECTOR_USER_CODE;
      run.s.regs.regs.rsp = FrameAddress(stack);
      return 0;
    });
  };
  script_trap_with_none_left(Vector::kDivideError, Stack::kTrap);
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kDivideError);
  EXPECT_EQ(vcpu_->instructions_left(), 0);
  // Not entered again.
  RunTo<Interrupted>();
  EXPECT_EQ(vcpu_->instructions_left(), -1);
  EXPECT_FALSE(is_trapped(registers_));

  vcpu_->set_instructions_left(3);
  ScriptTrap(Vector::kDebug, 0, 0, Stack::kIst);
  EXPECT_EQ(RunTo<Fault>().vector, Vector::kDebug);  // some are left: not ours
  script_trap_with_none_left(Vector::kDebug, Stack::kIst);
  RunTo<Interrupted>();
  EXPECT_EQ(vcpu_->instructions_left(), -1);
  vcpu_->set_instructions_left(runtime::kNoInstructionLimit);
  EXPECT_EQ(state.steps, 0);
}

TEST_F(VcpuTest, AFaultThatNeedsNothingMoreIsFollowedByTheSignalThatCameWithIt) {
  ASSERT_TRUE(space_.Map({.address = kCode,
                          .length = kPageSize,
                          .prot = PROT_READ,
                          .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED})
                  .ok());
  ScriptInterrupted(0, kStubs.page_fault.value);
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser, kCode);
  RunTo<Interrupted>();
  EXPECT_EQ(registers_.rip, fault_rip_);
  // Without one it goes on.
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser, kCode);
  ScriptSyscall(kCode + 0x42);
  RunTo<SystemCall>();
  EXPECT_TRUE(space_.Unmap(kCode, kPageSize).ok());
}

// Large anonymous memory takes one entry for 2 MiB, its ends and a file's pages one each.
TEST_F(VcpuTest, LargeAnonymousMemoryHasLargeLeaves) {
  constexpr std::uint64_t kSpan = 2 << 20;
  ASSERT_TRUE(space_.Map({.address = kCode,
                          .length = 40 * kSpan + kPageSize,
                          .prot = PROT_READ | PROT_WRITE,
                          .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED})
                  .ok());
  const auto touch = [&](std::uint64_t address) {
    ScriptTrap(Vector::kPageFault, x86::page_fault::kUser | x86::page_fault::kWrite, address);
  };
  for (std::uint64_t span = 0; span <= 40; ++span) touch(kCode + span * kSpan);
  ScriptSyscall(kCode + 0x42);
  RunTo<SystemCall>();
  EXPECT_EQ(mmu_.LargeLeaves(), 40u);
  // What is another mapping now, or forbidden, is no part of one.
  space_.SetObserver(&mmu_);
  ASSERT_TRUE(space_.Protect(kCode + kPageSize, kPageSize, PROT_READ).ok());
  EXPECT_EQ(mmu_.LargeLeaves(), 39u);
  touch(kCode);
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser | x86::page_fault::kWrite, kCode + kPageSize);
  EXPECT_EQ(RunTo<Fault>().address, kCode + kPageSize);
  EXPECT_EQ(mmu_.LargeLeaves(), 39u);
  EXPECT_TRUE(space_.Unmap(kCode, 40 * kSpan + kPageSize).ok());
  EXPECT_EQ(mmu_.LargeLeaves(), 0u);
  space_.SetObserver(nullptr);
}

TEST_F(VcpuTest, AHandlerIsLentOnlyIfRing0CanEnterIt) {
  const auto& traps =
      reinterpret_cast<const abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState))->traps;
  const runtime::FaultHandler handler{.address = kCode,
                                      .opening = 7,
                                      .restorer = 2,
                                      .blocks = 3,
                                      .alternate_stack = {.base = 4, .flags = 5, .size = 6},
                                      .switches_stack = true};
  vcpu_->Lend({.fault_handler = handler});
  EXPECT_EQ(traps.handler, kCode);
  EXPECT_EQ(traps.opening, 7u);
  EXPECT_EQ(traps.restorer, 2u);
  EXPECT_EQ(traps.blocks, 3u);
  EXPECT_EQ(traps.stack.base, 4u);
  EXPECT_EQ(traps.stack.size, 6u);
  EXPECT_EQ(traps.switches, 1u);
  EXPECT_EQ(traps.features, 7u);
  EXPECT_EQ(traps.state_size, 0x340u);
  vcpu_->Lend({});
  EXPECT_EQ(traps.handler, 0u);
  runtime::FaultHandler above = handler;
  above.address = std::uint64_t{1} << DUNE_USER_ADDRESS_BITS;
  vcpu_->Lend({.fault_handler = above});
  EXPECT_EQ(traps.handler, 0u);
}

TEST_F(VcpuTest, AHandlerInRing0BeginsWithTheStateOfAFreshProcess) {
  const std::byte* area = vm_->arena(layout::kScratchOffset + DUNE_SCRATCH_INITIAL);
  std::uint16_t control = 0;
  std::uint32_t mode = 0;
  std::uint64_t present = 0;
  std::memcpy(&control, area, sizeof(control));
  std::memcpy(&mode, area + abi::kMxcsrOffset, sizeof(mode));
  std::memcpy(&present, area + abi::kHeaderOffset, sizeof(present));
  EXPECT_EQ(control, 0x37f);
  EXPECT_EQ(mode, 0x1f80u);
  EXPECT_EQ(present, 3u);
}

class PoolTest : public VcpuTest {
 protected:
  PoolTest() {
    mmu_.OfferPool();
    space_.SetObserver(&mmu_);
  }
  ~PoolTest() override {
    space_.ClosePool();
    EXPECT_TRUE(space_.Unmap(pool().start, abi::MemoryPool::kPages * kPageSize).ok());
    space_.SetObserver(nullptr);
  }
  abi::MemoryPool& pool() {
    return *reinterpret_cast<abi::MemoryPool*>(vm_->arena(layout::kPoolOffset));
  }
  // The entry of each level for an address, as the CPU walks them.
  std::uint64_t Leaf(GuestVirt address) {
    std::uint64_t entry = mmu_.root().value;
    for (int level = 4; level >= 1; --level) {
      const auto* table = reinterpret_cast<const std::uint64_t*>(
          kvm_.Memory(GuestPhys{x86::PageTableEntry(entry).frame()}));
      entry = table[x86::TableIndex(address.value, level)];
    }
    return entry;
  }
};

// Through its window ring 0 reaches just the entries of the pool's pages.
TEST_F(PoolTest, Ring0SeesTheLeafTablesOfThePool) {
  ASSERT_TRUE(space_.OpenPool());
  ASSERT_EQ(pool().pages, abi::MemoryPool::kPages);
  for (const std::uint64_t page : {std::uint64_t{0}, std::uint64_t{511}, std::uint64_t{512},
                                   abi::MemoryPool::kPages - 1}) {
    const x86::PageTableEntry window(
        Leaf(layout::ArenaVirt(layout::kPoolTablesOffset + page / 512 * kPageSize)));
    EXPECT_TRUE(window.present() && window.writable() && !window.user() && window.no_execute());
    auto* entries = reinterpret_cast<std::uint64_t*>(kvm_.Memory(GuestPhys{window.frame()}));
    entries[page % 512] = 0x1234'5007;
    EXPECT_EQ(Leaf(GuestVirt{pool().start + page * kPageSize}), 0x1234'5007u);
    entries[page % 512] = 0;
  }
  // Its frames are the pool's memory.
  EXPECT_EQ(kvm_.Memory(GuestPhys{pool().first_frame}), reinterpret_cast<std::byte*>(pool().start));
}

TEST_F(PoolTest, WhatTheOpenPoolForbidsIsAFaultAndWhatItAllowsClosesIt) {
  ASSERT_TRUE(space_.OpenPool());
  const std::uint64_t start = pool().start;
  pool().state[1] = abi::MemoryPool::kUsed | abi::MemoryPool::kRead;
  constexpr std::uint64_t kRead = x86::page_fault::kUser;
  constexpr std::uint64_t kWrite = kRead | x86::page_fault::kWrite;
  ScriptTrap(Vector::kPageFault, kRead | x86::page_fault::kPresent, start);
  EXPECT_EQ(RunTo<Fault>().error_code, kRead);
  ScriptTrap(Vector::kPageFault, kWrite, start + kPageSize);
  EXPECT_EQ(RunTo<Fault>().error_code, kWrite | x86::page_fault::kPresent);
  EXPECT_TRUE(space_.HasOpenPool());
  ScriptTrap(Vector::kPageFault, kRead, start + kPageSize);
  ScriptSyscall(kCode + 0x42);
  RunTo<SystemCall>();
  EXPECT_FALSE(space_.HasOpenPool());
  EXPECT_TRUE(x86::PageTableEntry(Leaf(GuestVirt{start + kPageSize})).present());
  EXPECT_FALSE(x86::PageTableEntry(Leaf(GuestVirt{start})).present());
}

// What the vCPU has taken away itself it has forgotten; what another has, KVM makes it forget.
TEST_F(PoolTest, AVcpuComesInWithoutWhatOthersHaveTakenAway) {
  auto& state = *reinterpret_cast<abi::Ring0State*>(vm_->arena(kBlock + layout::kBlockState));
  const auto enter = [&](std::uint64_t others, std::uint64_t own) {
    pool().reductions += others + own;
    state.reductions += own;
    std::byte* const doorbell = vm_->arena(layout::kDoorbellOffset);
    *doorbell = std::byte{1};
    ScriptLook([&](const kvm_run&) { EXPECT_EQ(pool().inside, 1u); });
    RunTo<Interrupted>();
    EXPECT_EQ(pool().inside, 0u);
    return *doorbell == std::byte{0};
  };
  EXPECT_FALSE(enter(0, 0));
  EXPECT_FALSE(enter(0, 3));
  EXPECT_TRUE(enter(1, 0));
  EXPECT_FALSE(enter(0, 0));
  EXPECT_TRUE(enter(1, 1));
  EXPECT_EQ(mmu_.flushes().flushes(), 2u);
}

TEST_F(PoolTest, Ring0AsksForAFlushAndGoesOn) {
  kvm_.ScriptRun([this](kvm_run& run) {
    ++pool().reductions;
    Out(run, DUNE_PORT_FLUSH, kStubs.flush_out);
    run.s.regs.regs.rax = 0x1234;
    return 0;
  });
  kvm_.ScriptRun([](kvm_run& run) {
    EXPECT_EQ(run.kvm_dirty_regs, 0u);
    Out(run, DUNE_PORT_SYSCALL, kStubs.syscall_entry);
    return 0;
  });
  RunTo<SystemCall>();
  EXPECT_EQ(mmu_.flushes().flushes(), 1u);
}

// With all tables gone, ring 0 must not write where they were.
TEST_F(PoolTest, AfterStartingOverThereIsNoPoolAnyMore) {
  ASSERT_TRUE(space_.OpenPool());
  pool().state[1] = abi::MemoryPool::kUsed | abi::MemoryPool::kRead;
  const std::uint64_t page = pool().start + kPageSize;
  const auto far = space_.Map({.address = kCode,
                               .length = kPageSize,
                               .prot = PROT_READ,
                               .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED});
  ASSERT_TRUE(far.ok());
  vm_->LimitSlots(layout::kWindowSlot + 1);
  ScriptTrap(Vector::kPageFault, x86::page_fault::kUser, kCode);
  ScriptSyscall(kCode + 0x42);
  RunTo<SystemCall>();
  EXPECT_EQ(mmu_.times_started_over(), 1u);
  EXPECT_EQ(pool().pages, 0u);
  space_.ClosePool();
  EXPECT_TRUE(space_.WithVma(GuestVirt{page}, [](const memory::Vma* vma) { return vma != nullptr; }));
  EXPECT_FALSE(space_.OpenPool());
  EXPECT_TRUE(space_.Unmap(kCode, kPageSize).ok());
}

TEST_F(VcpuTest, ExtendedStateGoesThroughUnchanged) {
  std::vector<std::byte> area(vcpu_->extended_state_size());
  for (std::size_t i = 0; i < area.size(); ++i) area[i] = static_cast<std::byte>(i * 7);
  ASSERT_EQ(vcpu_->LoadExtendedState(area), absl::OkStatus());
  std::vector<std::byte> back(area.size());
  ASSERT_EQ(vcpu_->SaveExtendedState(back), absl::OkStatus());
  EXPECT_EQ(back, area);
  kvm_.FailCall(1, EINVAL);
  EXPECT_FALSE(vcpu_->LoadExtendedState(area).ok());
  kvm_.FailCall(1, EINVAL);
  EXPECT_FALSE(vcpu_->SaveExtendedState(back).ok());
}

TEST_F(VcpuTest, StartsWithTheStateOfAFreshLinuxProcess) {
  EXPECT_EQ(kvm_.fpu().fcw, 0x37f);
  EXPECT_EQ(kvm_.fpu().mxcsr, 0x1f80u);
  EXPECT_EQ(kvm_.xcr0(), 7u);
  EXPECT_EQ(vcpu_->extended_features(), 7u);
  EXPECT_EQ(vcpu_->extended_state_size(), 0x340u);
  EXPECT_EQ(kvm_.msrs.at(x86::msr::kLstar), kStubs.quick_entry.value);
}

}  // namespace
}  // namespace dunebox::kvm
