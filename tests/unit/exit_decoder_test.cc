#include "runtime/kvm/exit_decoder.h"

#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "hostcalls/abi/ring0_abi.h"
#include "runtime/kvm/layout.h"

namespace dunebox::kvm {
namespace {

const Stubs kStubs = Stubs::At(layout::ArenaVirt(layout::kImageOffset));
constexpr std::uint64_t kUserRip = 0x40'1000;

// One word for what an exit was decoded to.
std::string NameOf(const VmExit& exit) {
  struct Namer {
    std::string operator()(const TrapExit&) const { return "trap"; }
    std::string operator()(const SyscallExit&) const { return "syscall"; }
    std::string operator()(const AnsweredExit&) const { return "answered"; }
    std::string operator()(const UserPortExit& user) const {
      return (user.out ? "user out " : "user in ") + std::to_string(user.port);
    }
    std::string operator()(const UserInvalidExit& user) const {
      return user.privileged ? "user privileged" : "user invalid";
    }
    std::string operator()(const InterruptedExit&) const { return "interrupted"; }
    std::string operator()(const FlushExit&) const { return "flush"; }
    std::string operator()(const FailedExit& failed) const {
      EXPECT_GT(failed.reason.size(), 10u);
      return "failed";
    }
  };
  return std::visit(Namer{}, exit);
}

kvm_run At(int privilege, std::uint64_t rip, std::uint32_t reason) {
  kvm_run run{};
  run.exit_reason = reason;
  run.s.regs.regs.rip = rip;
  run.s.regs.sregs.cs.selector = static_cast<std::uint16_t>(
      privilege == 0 ? DUNE_SELECTOR_KERNEL_CODE : DUNE_SELECTOR_USER_CODE);
  return run;
}

std::string Port(int privilege, std::uint64_t rip, int direction, std::uint16_t port) {
  kvm_run run = At(privilege, rip, KVM_EXIT_IO);
  run.io.direction = static_cast<std::uint8_t>(direction);
  run.io.port = port;
  return NameOf(DecodeKvmExit(run, kStubs));
}

TEST(ExitDecoder, AHypercallCountsFromItsOwnStubOnly) {
  struct Case {
    int privilege;
    std::uint64_t rip;
    int direction;
    std::uint16_t port;
    const char* meaning;
  };
  const std::uint64_t trap = kStubs.trap_out.value;
  const std::uint64_t entry = kStubs.syscall_entry.value;
  const std::uint64_t answered = kStubs.quick_out.value;
  const Case cases[] = {
      // KVM reports RIP at the OUT or behind it.
      {0, trap, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "trap"},
      {0, trap + 2, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "trap"},
      {0, entry, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL, "syscall"},
      {0, entry + 2, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL, "syscall"},
      {0, answered, KVM_EXIT_IO_OUT, DUNE_PORT_ANSWERED, "answered"},
      {0, answered, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL, "failed"},
      {0, kStubs.flush_out.value + 2, KVM_EXIT_IO_OUT, DUNE_PORT_FLUSH, "flush"},
      {0, answered, KVM_EXIT_IO_OUT, DUNE_PORT_FLUSH, "failed"},
      {0, kStubs.flush_out.value, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "failed"},
      {3, kStubs.flush_out.value, KVM_EXIT_IO_OUT, DUNE_PORT_FLUSH, "user out 212"},
      {0, entry, KVM_EXIT_IO_OUT, DUNE_PORT_ANSWERED, "failed"},
      // The right port at the wrong place.
      {0, trap + 1, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "failed"},
      {0, trap + 3, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "failed"},
      {0, trap - 2, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "failed"},
      {0, entry, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "failed"},
      {0, trap, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL, "failed"},
      {0, kUserRip, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL, "failed"},
      {0, 0, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "failed"},
      // The wrong port or direction at the right place.
      {0, trap, KVM_EXIT_IO_OUT, DUNE_PORT_PROBE, "failed"},
      {0, trap, KVM_EXIT_IO_OUT, 0x80, "failed"},
      {0, trap, KVM_EXIT_IO_IN, DUNE_PORT_TRAP, "failed"},
      {0, entry, KVM_EXIT_IO_IN, DUNE_PORT_SYSCALL, "failed"},
      // Ring 3 never makes one, not even from an address of ours.
      {3, kUserRip, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "user out 208"},
      {3, kUserRip, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL, "user out 209"},
      {3, trap, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "user out 208"},
      {3, trap + 2, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP, "user out 208"},
      {3, entry + 2, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL, "user out 209"},
      {3, kUserRip, KVM_EXIT_IO_IN, 0x60, "user in 96"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Port(c.privilege, c.rip, c.direction, c.port), c.meaning)
        << "CPL " << c.privilege << " rip " << std::hex << c.rip << " port " << c.port;
  }
}

TEST(ExitDecoder, NoOtherPortIsAHypercallFromAnyStub) {
  for (unsigned port = 0; port < 0x1'0000; ++port) {
    const auto number = static_cast<std::uint16_t>(port);
    if (number != DUNE_PORT_TRAP) {
      ASSERT_EQ(Port(0, kStubs.trap_out.value, KVM_EXIT_IO_OUT, number), "failed") << port;
    }
    if (number != DUNE_PORT_SYSCALL) {
      ASSERT_EQ(Port(0, kStubs.syscall_entry.value, KVM_EXIT_IO_OUT, number), "failed") << port;
    }
  }
}

TEST(ExitDecoder, EveryExitReasonHasAMeaning) {
  for (std::uint32_t reason = 0; reason < 64; ++reason) {
    if (reason == KVM_EXIT_IO) continue;
    for (const int privilege : {0, 3}) {
      std::string expected = "failed";
      if (reason == KVM_EXIT_INTR) expected = "interrupted";
      if (reason == KVM_EXIT_HLT && privilege == 3) expected = "user privileged";
      // kvm_run is zero otherwise: KVM_EXIT_INTERNAL_ERROR is no emulation failure here only when
      // the sub-error says so, see below.
      if (reason == KVM_EXIT_INTERNAL_ERROR) continue;
      EXPECT_EQ(NameOf(DecodeKvmExit(At(privilege, kUserRip, reason), kStubs)), expected)
          << "reason " << reason << " CPL " << privilege;
    }
  }
}

TEST(ExitDecoder, AnInstructionThatKvmCannotEmulateIsTheProgramsFaultInRing3Only) {
  for (std::uint32_t sub = 1; sub <= 4; ++sub) {
    for (const int privilege : {0, 3}) {
      kvm_run run = At(privilege, kUserRip, KVM_EXIT_INTERNAL_ERROR);
      run.internal.suberror = sub;
      const bool users = privilege == 3 && sub == KVM_INTERNAL_ERROR_EMULATION;
      EXPECT_EQ(NameOf(DecodeKvmExit(run, kStubs)), users ? "user invalid" : "failed")
          << sub << " CPL " << privilege;
    }
  }
}

TEST(ExitDecoder, FailuresSayWhere) {
  kvm_run run = At(0, 0x1234'5678, KVM_EXIT_MMIO);
  run.mmio.phys_addr = 0xabcd'e000;
  const VmExit exit = DecodeKvmExit(run, kStubs);
  const std::string& reason = std::get<FailedExit>(exit).reason;
  EXPECT_NE(reason.find("0xabcde000"), std::string::npos) << reason;
  EXPECT_NE(reason.find("0x12345678"), std::string::npos) << reason;
}

TEST(ExitDecoder, AnUnknownExitIsToldWithTheHardwaresReason) {
  kvm_run run = At(0, 0x1234'5678, KVM_EXIT_UNKNOWN);
  run.hw.hardware_exit_reason = 0x77;
  const VmExit exit = DecodeKvmExit(run, kStubs);
  const std::string& reason = std::get<FailedExit>(exit).reason;
  EXPECT_NE(reason.find("0x77"), std::string::npos) << reason;
}

TEST(ExitDecoder, PrivilegeIsTheCodeSelectors) {
  for (int privilege = 0; privilege < 4; ++privilege) {
    kvm_run run{};
    run.s.regs.sregs.cs.selector = static_cast<std::uint16_t>(0x30 | privilege);
    EXPECT_EQ(PrivilegeOf(run), privilege);
  }
}

TEST(Stubs, AreInOrderInsideTheImage) {
  const std::uint64_t base = layout::ArenaVirt(layout::kImageOffset).value;
  const std::uint64_t in_order[] = {base,
                                    kStubs.trap_out.value,
                                    kStubs.trap_return.value,
                                    kStubs.trap_return_end.value,
                                    kStubs.syscall_entry.value,
                                    kStubs.syscall_return.value,
                                    kStubs.syscall_return_end.value,
                                    base + layout::kImageBytes};
  for (std::size_t i = 1; i < std::size(in_order); ++i) {
    EXPECT_LE(in_order[i - 1], in_order[i]) << i;
  }
  EXPECT_EQ(kStubs.trap_out.value + 2, kStubs.trap_return.value);
  EXPECT_EQ(kStubs.syscall_entry.value + 2, kStubs.syscall_return.value);
}

// ---- programs in ring 0 -------------------------------------------------------------------------

TEST(Ring0ExitDecoder, AnOutElsewhereIsAPortInstructionAndNoHypercall) {
  const Stubs stubs = Stubs::OfProgramImage(layout::ArenaVirt(layout::kImageOffset));
  const auto port = [&](std::uint64_t rip, int direction, std::uint16_t number) {
    kvm_run run = At(0, rip, KVM_EXIT_IO);
    run.io.direction = static_cast<std::uint8_t>(direction);
    run.io.port = number;
    return NameOf(DecodeRing0Exit(run, stubs));
  };
  for (const std::uint64_t behind : {0u, 2u}) {
    EXPECT_EQ(port(stubs.trap_out.value + behind, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP), "trap");
    EXPECT_EQ(port(stubs.syscall_entry.value + behind, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL), "syscall");
  }
  EXPECT_EQ(port(kUserRip, KVM_EXIT_IO_OUT, DUNE_PORT_TRAP), "user out 208");
  EXPECT_EQ(port(kUserRip, KVM_EXIT_IO_IN, 0x60), "user in 96");
  EXPECT_EQ(port(stubs.trap_out.value, KVM_EXIT_IO_OUT, DUNE_PORT_SYSCALL), "user out 209");
  EXPECT_EQ(port(stubs.trap_out.value, KVM_EXIT_IO_IN, DUNE_PORT_TRAP), "user in 208");
}

TEST(Ring0ExitDecoder, WhatTheProgramDoesToItsCpuIsItsOwn) {
  const Stubs stubs = Stubs::OfProgramImage(layout::ArenaVirt(layout::kImageOffset));
  const auto name = [&](std::uint32_t reason, std::uint32_t suberror = 0) {
    kvm_run run = At(0, kUserRip, reason);
    run.internal.suberror = suberror;
    return NameOf(DecodeRing0Exit(run, stubs));
  };
  EXPECT_EQ(name(KVM_EXIT_HLT), "user privileged");
  EXPECT_EQ(name(KVM_EXIT_SET_TPR), "interrupted");
  EXPECT_EQ(name(KVM_EXIT_INTR), "interrupted");
  EXPECT_EQ(name(KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION), "user invalid");
  EXPECT_EQ(name(KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_DELIVERY_EV), "failed");
  for (const std::uint32_t reason : {KVM_EXIT_SHUTDOWN, KVM_EXIT_MMIO, KVM_EXIT_FAIL_ENTRY,
                                     KVM_EXIT_UNKNOWN, KVM_EXIT_HYPERCALL, KVM_EXIT_SYSTEM_EVENT}) {
    EXPECT_EQ(name(reason), "failed") << reason;
  }
}

}  // namespace
}  // namespace dunebox::kvm
