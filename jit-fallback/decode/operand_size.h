// How many bytes of memory an instruction's explicit operand is, for debuggers that watch memory. The translator
// has no use for it.
//
//   if (Decode(bytes, instruction) == DecodeStatus::kOk) size = OperandSize(instruction, bytes);
#ifndef DUNEBOX_JIT_FALLBACK_DECODE_OPERAND_SIZE_H_
#define DUNEBOX_JIT_FALLBACK_DECODE_OPERAND_SIZE_H_

#include <cstdint>
#include <span>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

// Preconditions: the instruction has_memory, and is not refused. Of masked forms all of the operand; 0 where it depends on more
// than the instruction: gathers, scatters, tiles, XSAVE and its like.
unsigned OperandSize(const Instruction& instruction, std::span<const std::uint8_t> bytes);

// By what EVEX forms with one byte of displacement multiply it; 1 for all others. [intel/vol1 §15.5]
unsigned DisplacementUnit(const Instruction& instruction, std::span<const std::uint8_t> bytes);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DECODE_OPERAND_SIZE_H_
