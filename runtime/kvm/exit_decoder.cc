#include "runtime/kvm/exit_decoder.h"

#include "absl/strings/str_format.h"
#include "libdune/ring0/image.h"

namespace dunebox::kvm {
namespace {

// OUT imm8, AL. KVM reports RIP at the instruction or behind it, depending on how it ran it.
constexpr std::uint64_t kOutLength = 2;

bool IsAt(std::uint64_t rip, GuestVirt out) {
  return rip == out.value || rip == out.value + kOutLength;
}

VmExit DecodePort(const kvm_run& run, const Stubs& stubs, int privilege) {
  const bool out = run.io.direction == KVM_EXIT_IO_OUT;
  if (privilege != 0) return UserPortExit{.port = run.io.port, .out = out};
  const std::uint64_t rip = run.s.regs.regs.rip;
  if (out && run.io.port == DUNE_PORT_TRAP && IsAt(rip, stubs.trap_out)) return TrapExit{};
  if (out && run.io.port == DUNE_PORT_SYSCALL && IsAt(rip, stubs.syscall_entry)) {
    return SyscallExit{};
  }
  if (out && run.io.port == DUNE_PORT_ANSWERED && IsAt(rip, stubs.quick_out)) return AnsweredExit{};
  if (out && run.io.port == DUNE_PORT_FLUSH && IsAt(rip, stubs.flush_out)) return FlushExit{};
  return FailedExit{absl::StrFormat("unauthentic hypercall: port 0x%x at rip 0x%x", run.io.port, rip)};
}

FailedExit Unexpected(const kvm_run& run, int privilege, const char* what) {
  return {absl::StrFormat("%s at rip 0x%x, CPL %d", what, run.s.regs.regs.rip, privilege)};
}

}  // namespace

Stubs Stubs::At(GuestVirt base) {
  const abi::ImageHeader& header = dune::Ring0Header();
  return {.vectors = base + header.vectors,
          .trap_out = base + header.trap_out,
          .trap_return = base + header.trap_return,
          .trap_return_end = base + header.trap_return_end,
          .syscall_entry = base + header.syscall_entry,
          .syscall_return = base + header.syscall_return,
          .syscall_return_end = base + header.syscall_return_end,
          .quick_entry = base + header.quick_entry,
          .quick_test = base + header.quick_test,
          .quick_sysret = base + header.quick_sysret,
          .quick_out = base + header.quick_out,
          .quick_routines = base + header.quick_routines,
          .quick_routines_end = base + header.quick_routines_end,
          .quick_retreat = base + header.quick_retreat,
          .page_fault = base + header.page_fault,
          .fault_test = base + header.fault_test,
          .fault_return = base + header.fault_return,
          .flush_out = base + header.flush_out,
          .step = base + header.step,
          .step_test = base + header.step_test,
          .step_return = base + header.step_return};
}

int PrivilegeOf(const kvm_run& run) { return run.s.regs.sregs.cs.selector & 3; }

VmExit DecodeKvmExit(const kvm_run& run, const Stubs& stubs) {
  return DecodeKvmExit(run, stubs, PrivilegeOf(run));
}

VmExit DecodeKvmExit(const kvm_run& run, const Stubs& stubs, int privilege) {
  const bool user = privilege != 0;
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      return DecodePort(run, stubs, privilege);
    case KVM_EXIT_INTR:
      return InterruptedExit{};
    case KVM_EXIT_HLT:
      if (user) return UserInvalidExit{.privileged = true};
      return Unexpected(run, privilege, "HLT in ring 0");
    case KVM_EXIT_INTERNAL_ERROR:
      // KVM could not emulate an instruction; in ring 3 that is the program's instruction.
      if (user && run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        return UserInvalidExit{.privileged = false};
      }
      return FailedExit{absl::StrFormat("KVM internal error %u at rip 0x%x", run.internal.suberror,
                                        run.s.regs.regs.rip)};
    case KVM_EXIT_SHUTDOWN:
      return Unexpected(run, privilege, "triple fault");
    case KVM_EXIT_FAIL_ENTRY:
      return FailedExit{
          absl::StrFormat("the CPU refused to enter the guest: hardware reason 0x%x",
                          run.fail_entry.hardware_entry_failure_reason)};
    case KVM_EXIT_UNKNOWN:
      return FailedExit{
          absl::StrFormat("KVM does not know why it has stopped: hardware reason 0x%x at rip 0x%x",
                          run.hw.hardware_exit_reason, run.s.regs.regs.rip)};
    case KVM_EXIT_MMIO:
      return FailedExit{absl::StrFormat("access to guest-physical 0x%x, which has no memory, at "
                                        "rip 0x%x",
                                        run.mmio.phys_addr, run.s.regs.regs.rip)};
    default:
      return FailedExit{absl::StrFormat("unexpected KVM exit %u at rip 0x%x", run.exit_reason,
                                        run.s.regs.regs.rip)};
  }
}

}  // namespace dunebox::kvm
