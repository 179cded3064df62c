// Under isolation by mask an address outside the user half raises #GP or #SS wherever it points,
// and not always of the segment that the guest's own operand has. This finds the exception that the
// guest's instruction would have raised.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_CONFINED_FAULT_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_CONFINED_FAULT_H_

#include <cstdint>
#include <optional>
#include <span>

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/context.h"

namespace dunebox::jit {

// What the host kernel would have reported. [intel/vol3 §6.15] [linux] signal(7)
struct NativeFault {
  std::uint64_t vector, error_code, address;
  int signal, code;
};

// `instruction`, of which `bytes` are all, has raised #GP or #SS with the registers of `context`.
// Nothing when it has done so for another reason than an address outside the user half.
std::optional<NativeFault> FaultOutsideUserHalf(const Instruction& instruction,
                                                std::span<const std::uint8_t> bytes,
                                                const Context& context);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_CONFINED_FAULT_H_
