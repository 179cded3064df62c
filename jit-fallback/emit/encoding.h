// Small facts of the encoding that the emitter's parts share.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_ENCODING_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_ENCODING_H_

#include <cstdint>

#include "jit-fallback/emit/assembler.h"

namespace dunebox::jit {

// A register as the masks of Instruction have it, and as ModRM has it.
constexpr std::uint16_t Bit(Reg reg) {
  return static_cast<std::uint16_t>(1U << static_cast<unsigned>(reg));
}
constexpr std::uint8_t Low(Reg reg) { return static_cast<std::uint8_t>(reg) & 7; }

// What an absolute 32-bit operand reaches without sign: [0, 2 GiB).
inline constexpr std::uint64_t kLow2GiB = std::uint64_t{1} << 31;

inline constexpr std::uint8_t kSegmentFsPrefix = 0x64, kSegmentGsPrefix = 0x65,
                              kAddressSizePrefix = 0x67, kOperandSizePrefix = 0x66,
                              kLockPrefix = 0xf0;

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_ENCODING_H_
