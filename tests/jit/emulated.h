// Single instructions, as the processor executes them and as the runtime carries them out.
#ifndef DUNEBOX_TESTS_JIT_EMULATED_H_
#define DUNEBOX_TESTS_JIT_EMULATED_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/jit/arena.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {

inline constexpr std::uint64_t kPageFault = 14, kNoException = ~std::uint64_t{0};

struct Outcome {
  std::uint64_t vector = kNoException, error = 0, address = 0;
};
std::string Text(const Outcome& outcome);
// Empty when they are the same.
std::string Unequal(const std::string& native, const std::string& emulated);

// Puts the instruction where the machine is, and HLT behind it.
void WriteInstruction(Arena& arena, const Machine& machine, std::span<const std::uint8_t> bytes);
// The one at the machine's RIP.
Outcome RunNative(Runner& runner, Machine& machine);
// Until it is done.
Outcome Emulate(std::span<const std::uint8_t> bytes, Machine& machine);

// The arena's data together with the pages that may be read only and not accessed at all.
class GuardedMemory {
 public:
  explicit GuardedMemory(const Arena& arena) : arena_(arena) { Allow(false); }

  void Allow(bool all) const;
  // Preconditions: all is allowed.
  std::vector<std::byte> Save() const { return {All().begin(), All().end()}; }
  void Restore(const std::vector<std::byte>& saved) const;

  // With all allowed for the time being.
  std::vector<std::byte> TakeAll() const;
  void PutAll(const std::vector<std::byte>& saved) const;

 private:
  std::span<std::byte> All() const {
    return {reinterpret_cast<std::byte*>(arena_.memory()), arena_.stack() - arena_.memory()};
  }
  const Arena& arena_;
};

// A number from the environment.
std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise);

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_EMULATED_H_
