// What a vCPU needs besides when the program itself runs in ring 0.
#include "runtime/kvm/vcpu.h"

namespace dunebox::kvm {

namespace x86 = dune::x86;

namespace {

// The values after a reset. [intel/vol3 §17.2]
constexpr std::uint64_t kDebugStatusAtReset = 0xffff'0ff0;
constexpr std::uint64_t kDebugControlAtReset = 0x400;

}  // namespace

// By address, since the privilege level does not tell: the image and the program have the same.
bool Vcpu::StandsInProgramOfRing0() const {
  const std::uint64_t rip = run().s.regs.regs.rip;
  const bool in_trap_path =
      rip >= stubs_.vectors.value && rip < stubs_.trap_return_end.value;
  return !in_trap_path && rip != stubs_.syscall_entry.value;
}

// vCPUs come from a pool: nothing of what one thread did to its own may surprise the next one.
absl::Status Vcpu::ClearWhatRing0MaySet() {
  kvm_debugregs debug{.dr6 = kDebugStatusAtReset, .dr7 = kDebugControlAtReset};
  if (int result = vm_.api().Ioctl(vcpu_.get(), KVM_SET_DEBUGREGS, &debug); result < 0) {
    return KvmError("KVM_SET_DEBUGREGS", result);
  }
  MsrTable msrs;
  for (const std::uint32_t index : {x86::msr::kKernelGsBase, x86::msr::kSysenterCode,
                                    x86::msr::kSysenterStack, x86::msr::kSysenterEntry}) {
    msrs.Add(index, 0);
  }
  if (int result = vm_.api().Ioctl(vcpu_.get(), KVM_SET_MSRS, &msrs); result < 0) {
    return KvmError("KVM_SET_MSRS", result);
  }
  return absl::OkStatus();
}

}  // namespace dunebox::kvm
