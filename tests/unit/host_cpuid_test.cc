#include "hostcalls/host_cpuid.h"

#include <cpuid.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace dunebox::hostcalls {
namespace {

HostCpuid Execute(unsigned leaf, unsigned subleaf) {
  HostCpuid result;
  __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
  return result;
}

void ExpectAsExecuted(unsigned leaf, unsigned subleaf) {
  const HostCpuid executed = Execute(leaf, subleaf), asked = AskHostCpuid(leaf, subleaf);
  EXPECT_EQ(asked.eax, executed.eax) << leaf << " " << subleaf;
  EXPECT_EQ(asked.ebx, executed.ebx) << leaf << " " << subleaf;
  EXPECT_EQ(asked.ecx, executed.ecx) << leaf << " " << subleaf;
  EXPECT_EQ(asked.edx, executed.edx) << leaf << " " << subleaf;
}

// Also when there are more of them than are remembered, and when several threads ask for the same.
TEST(HostCpuid, SaysWhatTheInstructionSays) {
  const unsigned leaves[] = {0, 2, 4, 6, 7, 0xd, 0x12, 0x14, 0x8000'0000, 0x8000'0001, 0x8000'0008, 0x4000'0000};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (const unsigned leaf : leaves) {
        for (unsigned subleaf = 0; subleaf < 12; ++subleaf) {
          ExpectAsExecuted(leaf, subleaf);
          ExpectAsExecuted(leaf, subleaf);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(HostCpuid, ALeafThatTheProcessorDoesNotHaveIsZeros) {
  for (const unsigned first : {0U, 0x8000'0000U}) {
    const unsigned last = AskHostCpuid(first).eax;
    EXPECT_EQ(FeaturesOfHost(first).eax, last);
    const HostCpuid behind = FeaturesOfHost(last + 1);
    EXPECT_EQ(behind.eax | behind.ebx | behind.ecx | behind.edx, 0U);
  }
}

}  // namespace
}  // namespace dunebox::hostcalls
