// What ring 0's C++ knows of where it is: on the trap stack of its vCPU, whose state is in the same page.
//
//   Ring0State& state = StateOf(call);   // of anything that entry.S has pushed
#ifndef DUNEBOX_LIBDUNE_RING0_POOL_STATE_H_
#define DUNEBOX_LIBDUNE_RING0_POOL_STATE_H_

#include <cstdint>

#include "hostcalls/abi/ring0_abi.h"

namespace dune::ring0 {

// For PoolLock. Whoever has it is done in less, unless its host has put it aside.
inline constexpr unsigned kPoolTries = 4096;

inline dunebox::abi::Ring0State& StateOf(const void* on_the_stack) {
  const std::uint64_t block = reinterpret_cast<std::uint64_t>(on_the_stack) & ~std::uint64_t{4095};
  return *reinterpret_cast<dunebox::abi::Ring0State*>(block + DUNE_BLOCK_STATE);
}

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_POOL_STATE_H_
