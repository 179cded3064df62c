// Where an instruction's memory operand lies, from a thread's registers.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_OPERAND_ADDRESS_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_OPERAND_ADDRESS_H_

#include <cstdint>
#include <span>

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/context.h"

namespace dunebox::jit {

// The explicit operand's address, with the base of its segment; of a bit string, that of the word
// with the bit. `bytes` are all of the instruction, which is at context.rip. Of gathers and
// scatters, without the index; of EVEX forms with one byte of displacement it is not exact, because
// that counts operands. [intel/vol2 §2.1.5]
std::uint64_t OperandAddress(const Instruction& instruction, std::span<const std::uint8_t> bytes,
                             const Context& context);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_OPERAND_ADDRESS_H_
