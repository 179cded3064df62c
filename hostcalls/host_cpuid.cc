#include "hostcalls/host_cpuid.h"

#include <cpuid.h>

#include <array>
#include <atomic>
#include <cstddef>

namespace dunebox::hostcalls {
namespace {

// [intel/vol2 CPUID; amd/vol3 app. E] Processor numbers, and what other leaves say of the processor that executes it.
constexpr bool DependsOnProcessor(std::uint32_t leaf) {
  constexpr std::uint32_t kFeaturesWithApicId = 1, kTopology = 0xb, kHybrid = 0x1a, kTopologyV2 = 0x1f,
                          kAmdTopology = 0x8000'001e, kAmdTopologyV2 = 0x8000'0026;
  return leaf == kFeaturesWithApicId || leaf == kTopology || leaf == kHybrid || leaf == kTopologyV2 ||
         leaf == kAmdTopology || leaf == kAmdTopologyV2;
}

HostCpuid Execute(std::uint32_t leaf, std::uint32_t subleaf) {
  HostCpuid result;
  __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
  return result;
}

// Filled without a lock, which a sibling of the thread that forks might hold. A place that somebody is filling is passed by;
// so is one that a child has inherited half filled.
struct Known {
  enum class State : std::uint8_t { kFree, kFilling, kFilled };
  std::atomic<State> state = State::kFree;
  std::uint32_t leaf = 0, subleaf = 0;
  HostCpuid result;

  bool Has(std::uint32_t wanted, std::uint32_t wanted_subleaf) const {
    return state.load(std::memory_order_acquire) == State::kFilled && leaf == wanted && subleaf == wanted_subleaf;
  }
  bool Take() {
    State free = State::kFree;
    return state.compare_exchange_strong(free, State::kFilling, std::memory_order_relaxed);
  }
};
constinit std::array<Known, 64> known;

// Basic leaves or extended ones: the first of them says which is the last. Intel's processors answer for what is behind
// the last basic one as for that one.
bool Exists(std::uint32_t leaf) {
  const std::uint32_t first = leaf & 0x8000'0000;
  return leaf == first || leaf <= AskHostCpuid(first).eax;
}

}  // namespace

bool HasSubleaves(std::uint32_t leaf) {
  const bool is_whole = leaf <= 3 || leaf == 5 || leaf == 6 || leaf == 0x15 || leaf == 0x16 ||
                        (leaf >= 0x8000'0000 && leaf <= 0x8000'0008);
  return !is_whole;
}

HostCpuid AskHostCpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  if (DependsOnProcessor(leaf) || !Exists(leaf)) return Execute(leaf, subleaf);
  if (!HasSubleaves(leaf)) subleaf = 0;
  for (Known& place : known) {
    if (place.Has(leaf, subleaf)) return place.result;
    if (!place.Take()) continue;
    place.leaf = leaf;
    place.subleaf = subleaf;
    place.result = Execute(leaf, subleaf);
    place.state.store(Known::State::kFilled, std::memory_order_release);
    return place.result;
  }
  return Execute(leaf, subleaf);
}

HostCpuid FeaturesOfHost(std::uint32_t leaf, std::uint32_t subleaf) {
  return Exists(leaf) ? AskHostCpuid(leaf, subleaf) : HostCpuid{};
}

}  // namespace dunebox::hostcalls
