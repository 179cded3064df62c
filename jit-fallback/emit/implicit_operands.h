// Memory that an instruction reaches through registers it does not name in its operand.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_IMPLICIT_OPERANDS_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_IMPLICIT_OPERANDS_H_

#include <cstdint>
#include <span>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

// Registers that hold addresses. RSP, as PUSH and POP use it, is not among them.
struct ImplicitOperands {
  std::uint16_t read = 0, written = 0;
  std::uint16_t all() const { return read | written; }
};
// `bytes` are all of the instruction.
ImplicitOperands ImplicitOf(const Instruction& instruction, std::span<const std::uint8_t> bytes);

// Pushes write below RSP, pops read at it.
enum class StackUse : std::uint8_t { kNone, kPush, kPop };
StackUse StackUseOf(const Instruction& instruction);

// bt, bts, btr, btc with the number of the bit in a register: the word they use is as far from their
// operand as that says. [intel/vol2 BT]
bool IsBitString(const Instruction& instruction);
// 2, 4 or 8 bytes.
unsigned LogBitStringWord(const Instruction& instruction);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_IMPLICIT_OPERANDS_H_
