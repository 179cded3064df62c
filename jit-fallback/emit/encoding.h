// Small facts of the encoding that the emitter's parts share.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_ENCODING_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_ENCODING_H_

#include <cstdint>

#include "jit-fallback/emit/assembler.h"
#include "jit-fallback/emit/isolation.h"

namespace dunebox::jit {

// A register as the masks of Instruction have it, and as ModRM has it.
constexpr std::uint16_t Bit(Reg reg) {
  return static_cast<std::uint16_t>(1U << static_cast<unsigned>(reg));
}
constexpr unsigned Number(Reg reg) { return static_cast<unsigned>(reg); }
constexpr Reg RegField(const Instruction& instruction) {
  return static_cast<Reg>(((instruction.modrm >> 3) & 7) | ((instruction.rex & 4) != 0 ? 8 : 0));
}
constexpr std::uint8_t Low(Reg reg) { return static_cast<std::uint8_t>(reg) & 7; }
// [register] needs no REX, no SIB byte and no displacement. [intel/vol2 table 2-2]
constexpr bool IsSimpleBase(unsigned reg) { return reg < 8 && reg != kRsp && reg != kRbp; }

// One byte in units of the operand: it stays with the instruction, which knows them. [intel/vol1
// §15.5, disp8*N]
constexpr bool HasScaledDisplacement(const Instruction& instruction) {
  return instruction.encoding == Encoding::kEvex && instruction.displacement_size == 1;
}

// What an absolute 32-bit operand reaches without sign: [0, 2 GiB).
inline constexpr std::uint64_t kLow2GiB = std::uint64_t{1} << 31;

inline constexpr std::uint8_t kSegmentFsPrefix = 0x64, kSegmentGsPrefix = 0x65,
                              kAddressSizePrefix = 0x67, kOperandSizePrefix = 0x66,
                              kLockPrefix = 0xf0;

constexpr bool IsSegmentPrefix(std::uint8_t prefix) {
  return prefix == 0x26 || prefix == 0x2e || prefix == 0x36 || prefix == 0x3e ||
         prefix == kSegmentFsPrefix || prefix == kSegmentGsPrefix;
}

// The processor refuses longer ones. [intel/vol2 §2.3.11]
inline constexpr unsigned kLongestInstruction = 15;

// Of the segment through which emitted code reaches the thread's Context.
constexpr std::uint8_t ContextPrefix(Isolation isolation) {
  return isolation == Isolation::kSeg ? kSegmentFsPrefix : kSegmentGsPrefix;
}

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_ENCODING_H_
