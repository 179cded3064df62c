// Instructions that processors have and the translator's decoder does not know. It raises #UD for them, so CPUID must not offer
// them. Whoever teaches the decoder one of these takes its row away.
#ifndef DUNEBOX_RUNTIME_JIT_UNDECODED_FEATURES_H_
#define DUNEBOX_RUNTIME_JIT_UNDECODED_FEATURES_H_

#include "libdune/x86/guest_cpuid.h"

namespace dunebox::runtime {

// [intel/vol2 CPUID; amd/vol3 app. E]
inline constexpr dune::x86::HiddenFeature kUndecodedFeatures[] = {
    {7, 0, &dune::x86::CpuidResult::ebx, 26, "AVX512PF", "avx512pf"},
    {7, 0, &dune::x86::CpuidResult::edx, 16, "TSXLDTRK", "tsxldtrk"},
    {7, 1, &dune::x86::CpuidResult::eax, 0, "SHA512", "sha512"},
    {7, 1, &dune::x86::CpuidResult::eax, 1, "SM3", "sm3"},
    {7, 1, &dune::x86::CpuidResult::eax, 2, "SM4", "sm4"},
    {7, 1, &dune::x86::CpuidResult::eax, 3, "RAO-INT"},
    {7, 1, &dune::x86::CpuidResult::eax, 7, "CMPccXADD", "cmpccxadd"},
    {7, 1, &dune::x86::CpuidResult::eax, 23, "AVX-IFMA", "avx_ifma"},
    {7, 1, &dune::x86::CpuidResult::edx, 4, "AVX-VNNI-INT8", "avx_vnni_int8"},
    {7, 1, &dune::x86::CpuidResult::edx, 5, "AVX-NE-CONVERT", "avx_ne_convert"},
    {7, 1, &dune::x86::CpuidResult::edx, 10, "AVX-VNNI-INT16", "avx_vnni_int16"},
    {7, 1, &dune::x86::CpuidResult::edx, 15, "USER_MSR"},
    {7, 1, &dune::x86::CpuidResult::edx, 19, "AVX10, whose second version has more than AVX-512"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::ecx, 11, "XOP", "xop"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::ecx, 15, "LWP", "lwp"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::ecx, 21, "TBM", "tbm"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::edx, 30, "3DNow! extensions", "3dnowext"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::edx, 31, "3DNow!", "3dnow"},
    {0x8000'0008, 0, &dune::x86::CpuidResult::ebx, 8, "MCOMMIT"},
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_UNDECODED_FEATURES_H_
