// CPUID of the host's processor. In a virtual machine each takes some microseconds, and a program's start asks dozens of times: what is
// the same on all processors, and at all times, is asked of the processor once in a process.
//
//   if (const HostCpuid leaf = FeaturesOfHost(7); (leaf.ebx & bit_BMI2) != 0) ...
#ifndef DUNEBOX_HOSTCALLS_HOST_CPUID_H_
#define DUNEBOX_HOSTCALLS_HOST_CPUID_H_

#include <cstdint>

namespace dunebox::hostcalls {

struct HostCpuid {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// False for a leaf that pays no heed to ECX, in which programs then leave what they find. [intel/vol2 CPUID; amd/vol3 app. E]
bool HasSubleaves(std::uint32_t leaf);

// What the instruction gives: for a leaf that the processor does not have, whatever it says instead. Any thread's, also in a
// child of fork.
HostCpuid AskHostCpuid(std::uint32_t leaf, std::uint32_t subleaf = 0);

// The same; zeros where the processor has no such leaf.
HostCpuid FeaturesOfHost(std::uint32_t leaf, std::uint32_t subleaf = 0);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_HOST_CPUID_H_
