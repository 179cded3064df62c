// Instructions that processors have and the translator's decoder does not know. It raises #UD for them, so CPUID must not offer
// them. Whoever teaches the decoder one of these takes its row away.
#ifndef DUNEBOX_RUNTIME_JIT_UNDECODED_FEATURES_H_
#define DUNEBOX_RUNTIME_JIT_UNDECODED_FEATURES_H_

#include "libdune/x86/guest_cpuid.h"

namespace dunebox::runtime {

// [intel/vol2 CPUID; amd/vol3 app. E]
inline constexpr dune::x86::HiddenFeature kUndecodedFeatures[] = {
    {7, 0, &dune::x86::CpuidResult::edx, 16, "TSXLDTRK"},
    {7, 1, &dune::x86::CpuidResult::eax, 0, "SHA512"},
    {7, 1, &dune::x86::CpuidResult::eax, 1, "SM3"},
    {7, 1, &dune::x86::CpuidResult::eax, 2, "SM4"},
    {7, 1, &dune::x86::CpuidResult::eax, 3, "RAO-INT"},
    {7, 1, &dune::x86::CpuidResult::eax, 7, "CMPccXADD"},
    {7, 1, &dune::x86::CpuidResult::eax, 23, "AVX-IFMA"},
    {7, 1, &dune::x86::CpuidResult::edx, 4, "AVX-VNNI-INT8"},
    {7, 1, &dune::x86::CpuidResult::edx, 5, "AVX-NE-CONVERT"},
    {7, 1, &dune::x86::CpuidResult::edx, 10, "AVX-VNNI-INT16"},
    {7, 1, &dune::x86::CpuidResult::edx, 15, "USER_MSR"},
    {7, 1, &dune::x86::CpuidResult::edx, 19, "AVX10, whose second version has more than AVX-512"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::ecx, 11, "XOP"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::ecx, 15, "LWP"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::ecx, 21, "TBM"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::edx, 30, "3DNow! extensions"},
    {0x8000'0001, 0, &dune::x86::CpuidResult::edx, 31, "3DNow!"},
    {0x8000'0008, 0, &dune::x86::CpuidResult::ebx, 8, "MCOMMIT"},
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_UNDECODED_FEATURES_H_
