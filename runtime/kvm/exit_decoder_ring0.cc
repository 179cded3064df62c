// Exits of a program that runs in ring 0 itself.
#include "absl/strings/str_format.h"
#include "libdune/ring0/program_image.h"
#include "runtime/kvm/exit_decoder.h"

namespace dunebox::kvm {
namespace {

// OUT imm8, AL: KVM reports RIP at the instruction or behind it.
bool IsAt(std::uint64_t rip, GuestVirt out) { return rip == out.value || rip == out.value + 2; }

VmExit DecodePort(const kvm_run& run, const Stubs& stubs) {
  const bool out = run.io.direction == KVM_EXIT_IO_OUT;
  const std::uint64_t rip = run.s.regs.regs.rip;
  if (out && run.io.port == DUNE_PORT_TRAP && IsAt(rip, stubs.trap_out)) return TrapExit{};
  if (out && run.io.port == DUNE_PORT_SYSCALL && IsAt(rip, stubs.syscall_entry)) {
    return SyscallExit{};
  }
  return UserPortExit{.port = run.io.port, .out = out};
}

}  // namespace

Stubs Stubs::OfProgramImage(GuestVirt base) {
  const abi::ProgramImageHeader& header = dune::ProgramHeader();
  return {.vectors = base + header.vectors,
          .trap_out = base + header.trap_out,
          .trap_return = base + header.trap_return,
          .trap_return_end = base + header.trap_return_end,
          .syscall_entry = base + header.syscall_entry,
          .syscall_return = {},
          .syscall_return_end = {}};
}

VmExit DecodeRing0Exit(const kvm_run& run, const Stubs& stubs) {
  const std::uint64_t rip = run.s.regs.regs.rip;
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      return DecodePort(run, stubs);
    case KVM_EXIT_INTR:
    case KVM_EXIT_SET_TPR:  // CR8 was written: there is no interrupt controller to tell
      return InterruptedExit{};
    case KVM_EXIT_HLT:
      // There are no interrupts here, so nothing would ever end it.
      return UserInvalidExit{.privileged = true};
    case KVM_EXIT_INTERNAL_ERROR:
      if (run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        return UserInvalidExit{.privileged = false};
      }
      return FailedExit{
          absl::StrFormat("KVM internal error %u at rip 0x%x", run.internal.suberror, rip)};
    case KVM_EXIT_SHUTDOWN:
      return FailedExit{"triple fault"};
    case KVM_EXIT_FAIL_ENTRY:
      return FailedExit{
          absl::StrFormat("the CPU refused to go on: hardware reason 0x%x",
                          run.fail_entry.hardware_entry_failure_reason)};
    case KVM_EXIT_MMIO:
      return FailedExit{absl::StrFormat(
          "access to guest-physical 0x%x, which has no memory, at rip 0x%x", run.mmio.phys_addr,
          rip)};
    default:
      return FailedExit{
          absl::StrFormat("unexpected KVM exit %u at rip 0x%x", run.exit_reason, rip)};
  }
}

}  // namespace dunebox::kvm
