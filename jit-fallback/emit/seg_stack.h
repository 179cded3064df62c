// Where an instruction names RSP, which under isolation `seg` holds the window's base besides the
// guest's own value.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_SEG_STACK_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_SEG_STACK_H_

#include <cstdint>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

// Beside Instruction::kReg, kRm and kVvvv: the base of the memory operand.
inline constexpr std::uint8_t kStackBase = 8;

// The operand's base register is RSP.
constexpr bool HasStackBase(const Instruction& instruction) {
  return instruction.has_memory && (instruction.modrm & 7) == 4 && (instruction.sib & 7) == kRsp &&
         (instruction.rex & 1) == 0;
}

// Which operands that are registers are RSP (kReg, kRm, kVvvv); not its low byte.
std::uint8_t StackFields(const Instruction& instruction);

// An operand is SPL.
bool NamesStackByte(const Instruction& instruction);

// An access at [rsp + displacement] that needs no prefix: wherever RSP may be, it is made in the
// window or in the guards beside it.
bool IsThroughStack(const Instruction& instruction);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_SEG_STACK_H_
