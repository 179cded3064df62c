// The fields of an encoded instruction as they are read, before a form of the opcode gives them a
// meaning. Shared by the parts of the decoder; nothing else needs it.
#ifndef DUNEBOX_JIT_FALLBACK_DECODE_FIELDS_H_
#define DUNEBOX_JIT_FALLBACK_DECODE_FIELDS_H_

#include <cstdint>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

inline constexpr unsigned kMaxLength = 15;
inline constexpr unsigned kRexW = 8, kRexR = 4, kRexX = 2, kRexB = 1;

struct Fields {
  unsigned rex = 0;    // for VEX and EVEX an equivalent
  unsigned group = 0;  // of the opcode, in the table's index
  unsigned map = 0;
  unsigned opcode = 0;
  unsigned modrm = 0xc0;  // when there is none: a register form, ModRM.rm as in the opcode
  unsigned sib = 0;
  unsigned vvvv = 0;
  unsigned vector_length = 0;
  unsigned evex_first = 0x10, evex_third = 0x08;  // payload bytes 0 and 2; R' and V' unused
  Encoding encoding = Encoding::kLegacy;
  bool operand_size = false;

  bool IsWide() const { return (rex & kRexW) != 0; }
  bool IsRegisterForm() const { return modrm >= 0xc0; }
  bool IsEvex() const { return encoding == Encoding::kEvex; }

  // Register numbers with their REX, VEX and EVEX extensions.
  unsigned Reg() const { return ((modrm >> 3) & 7) | (rex & kRexR) << 1; }
  unsigned Rm() const { return (modrm & 7) | (rex & kRexB) << 3; }
  unsigned Index() const { return ((sib >> 3) & 7) | (rex & kRexX) << 2; }
  // The fifth bits: EVEX.R', EVEX.V' (both inverted), and EVEX.X of a vector register in ModRM.rm.
  unsigned HighReg() const { return (evex_first & 0x10) != 0 ? 0 : 16; }
  unsigned HighVvvv() const { return (evex_third & 0x08) != 0 ? 0 : 16; }
  unsigned HighRm() const { return (rex & kRexX) << 3; }

  unsigned EvexMask() const { return evex_third & 7; }
  bool EvexBroadcast() const { return (evex_third & 0x10) != 0; }
  bool EvexZeroing() const { return (evex_third & 0x80) != 0; }
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DECODE_FIELDS_H_
