// All that guest code can see of a thread, how it stopped, and how two of those differ.
#ifndef DUNEBOX_TESTS_JIT_MACHINE_H_
#define DUNEBOX_TESTS_JIT_MACHINE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

#include "jit-fallback/dispatch/thread_context.h"
#include "tests/jit/native.h"

namespace dunebox::jit {

using Random = std::mt19937_64;

inline std::uint64_t Below(Random& random, std::uint64_t bound) { return random() % bound; }
// True `percent` times of a hundred.
inline bool Chance(Random& random, unsigned percent) { return random() % 100 < percent; }

struct Machine {
  std::array<std::uint64_t, 16> gpr{};  // in encoding order
  std::uint64_t rip = 0, rflags = 0x202, fs_base = 0, gs_base = 0;
  alignas(64) std::array<std::byte, 4096> extended{};  // XSAVE, standard format
};
static_assert(offsetof(Machine, gpr) == JIT_TEST_GPR);
static_assert(offsetof(Machine, rip) == JIT_TEST_RIP);
static_assert(offsetof(Machine, rflags) == JIT_TEST_RFLAGS);
static_assert(offsetof(Machine, fs_base) == JIT_TEST_FS_BASE);
static_assert(offsetof(Machine, gs_base) == JIT_TEST_GS_BASE);
static_assert(offsetof(Machine, extended) == JIT_TEST_EXTENDED);

// The exception that ended a run, as a signal handler of the guest's would be told.
struct Ending {
  int signal = 0, code = 0;
  std::uint64_t vector = 0, error = 0, address = 0;
};

// Components of the vector state that a Linux process has without asking; of this processor.
const ExtendedLayout& VectorLayout();

// Contents for every register; vector state valid for XRSTOR, exceptions mostly masked.
void Randomize(Random& random, Machine& machine);

// Components in their initial state get the contents that this means; what the translator cannot
// keep (where the last x87 instruction was) is set to zero.
void Normalize(Machine& machine);

// Empty when the same. Normalizes both.
std::string Difference(Machine& native, Machine& translated);
std::string Difference(const Ending& native, const Ending& translated);

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_MACHINE_H_
