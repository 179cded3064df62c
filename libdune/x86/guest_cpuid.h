// CPUID bits that no guest gets, whatever engine runs it.
#ifndef DUNEBOX_LIBDUNE_X86_GUEST_CPUID_H_
#define DUNEBOX_LIBDUNE_X86_GUEST_CPUID_H_

#include <cstdint>
#include <span>

#include "libdune/x86/control.h"

namespace dune::x86 {

struct CpuidResult {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  bool operator==(const CpuidResult&) const = default;
};

// One hidden bit. [intel/vol2 CPUID; amd/vol3 app. E]
struct HiddenFeature {
  std::uint32_t function;
  std::uint32_t index;
  std::uint32_t CpuidResult::*reg;
  unsigned bit;
  const char* name;
  const char* flag = "";  // its word in /proc/cpuinfo; many have none
};
inline constexpr HiddenFeature kHiddenFeatures[] = {
    {1, 0, &CpuidResult::ecx, 3, "MONITOR: would spin in the guest", "monitor"},
    {1, 0, &CpuidResult::ecx, 5, "VMX", "vmx"},
    {1, 0, &CpuidResult::ecx, 15, "PDCM", "pdcm"},
    {1, 0, &CpuidResult::ecx, 21, "x2APIC: there is no interrupt controller", "x2apic"},
    {1, 0, &CpuidResult::ecx, 24, "TSC deadline", "tsc_deadline_timer"},
    {7, 0, &CpuidResult::ebx, 2, "SGX", "sgx"},
    {7, 0, &CpuidResult::ebx, 4, "HLE", "hle"},
    {7, 0, &CpuidResult::ebx, 11, "RTM", "rtm"},
    {7, 0, &CpuidResult::ebx, 14, "MPX", "mpx"},
    {7, 0, &CpuidResult::ebx, 25, "Intel PT", "intel_pt"},
    {7, 0, &CpuidResult::ecx, 3, "PKU: the keys are the runtime's", "pku"},
    {7, 0, &CpuidResult::ecx, 4, "OSPKE", "ospke"},
    {7, 0, &CpuidResult::ecx, 5, "WAITPKG", "waitpkg"},
    {7, 0, &CpuidResult::ecx, 7, "CET shadow stacks", "user_shstk"},
    {7, 0, &CpuidResult::ecx, 29, "ENQCMD", "enqcmd"},
    {7, 0, &CpuidResult::ecx, 31, "PKS"},
    {7, 0, &CpuidResult::edx, 5, "UINTR"},
    {7, 0, &CpuidResult::edx, 11, "RTM always aborts", "rtm_always_abort"},
    {7, 0, &CpuidResult::edx, 20, "CET indirect branch tracking", "ibt"},
    {7, 0, &CpuidResult::edx, 22, "AMX bf16", "amx_bf16"},
    {7, 0, &CpuidResult::edx, 24, "AMX tile", "amx_tile"},
    {7, 0, &CpuidResult::edx, 25, "AMX int8", "amx_int8"},
    {7, 1, &CpuidResult::eax, 21, "AMX fp16", "amx_fp16"},
    {7, 1, &CpuidResult::edx, 8, "AMX complex", "amx_complex"},
    {7, 1, &CpuidResult::edx, 21, "APX: 16 more registers, which are a component of the extended state", "apx"},
    {0xd, 1, &CpuidResult::eax, 3, "XSAVES: no supervisor state", "xsaves"},
    {0xd, 1, &CpuidResult::eax, 4, "XFD", "xfd"},
    {0x8000'0001, 0, &CpuidResult::ecx, 2, "SVM", "svm"},
    {0x8000'0001, 0, &CpuidResult::ecx, 23, "performance counters", "perfctr_core"},
    {0x8000'0001, 0, &CpuidResult::ecx, 24, "northbridge counters", "perfctr_nb"},
};

// x87, SSE, AVX and the three AVX-512 components: what a guest may enable in XCR0. Not MPX (gone),
// not PKRU (the keys would be the runtime's), not AMX (needs a permission per process).
inline constexpr std::uint64_t kExtendedFeatureMask = 0xe7;

constexpr void HideFeatures(std::uint32_t function, std::uint32_t index, CpuidResult& result,
                            std::span<const HiddenFeature> features = kHiddenFeatures) {
  for (const HiddenFeature& hidden : features) {
    if (function == hidden.function && index == hidden.index) {
      result.*hidden.reg &= ~static_cast<std::uint32_t>(Bit(hidden.bit));
    }
  }
}

}  // namespace dune::x86

#endif  // DUNEBOX_LIBDUNE_X86_GUEST_CPUID_H_
