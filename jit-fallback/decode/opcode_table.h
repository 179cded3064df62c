// The table of instruction forms that the decoder, its fuzzer and its tests share. It is written as
// text in a notation close to the manuals' opcode maps (opcodes_*.inc) and turned into an index
// when this is compiled. What no line describes does not exist: the decoder refuses it.
//
// A section starts with `@ legacy|vex|evex MAP`; each further line is one form of some opcodes:
//
//   OPCODES  PREFIXES  CONSTRAINTS  OPERANDS  PROPERTIES
//   73       66        /2,3,6,7     U+ Ib
//
// OPCODES      hexadecimal: 08 or 08,0a-0e.
// PREFIXES     np 66 f3 f2: the mandatory prefix; none named (legacy only): any. With .0 or .1
//              the bit W of REX, VEX or EVEX must be so.
// CONSTRAINTS  /N: ModRM.reg. rmN: ModRM.rm. mod3: register form only. L0 L1 L2 L01 L12: vector
//              length; without one L01 (VEX) or L012 (EVEX). LIG: any length.
// OPERANDS     read; with + read and written, ! written only, ~ not accessed.
//   E  ModRM.rm: general register or memory       G  ModRM.reg: general register
//   R  ModRM.rm: general register                 B  VEX.vvvv: general register
//   M  ModRM.rm: memory                           Z  low bits of the opcode: general register
//   W  vector register or memory                  V  ModRM.reg: vector register
//   U  ModRM.rm: vector register                  H  VEX.vvvv: vector register
//   Q  MMX register or memory                     N  ModRM.rm: MMX register, P  ModRM.reg: the same
//   F  ModRM.rm: another register (x87) or none   S C D  segment, control, debug register
//   Kr Ke Ku Kh  mask register: reg, rm or memory, rm, vvvv    Tr Tu Th  tile: reg, rm, vvvv
//   X  memory with a vector index                 Y  memory with a SIB byte
//   followed by a size: b 8, w 16, v 16/32/64, y or d or q 32/64 (a write fills the register)
//   I  immediate: Ib Iw Iz Iv, Ibb two bytes, Ie of enter    J  branch: Jb Jz    O  moffs: Ob Ov
//   ax cx dx bx sp bp si di r11: implicit operands, read or partly written; ! only written, in
//   full; = the same unless the operand size is 16 bits
// PROPERTIES   lock: may be locked when the destination is memory. f=: writes all six arithmetic
//              flags and reads none; f?: reads some. zero: two equal registers give zero.
//              nop: touches nothing. rep: REP counts RCX.
//              EVEX: k may be masked, k! must be, z zeroing too, bc er sae; distinct: the
//              destination may be no source.
//              Anything else names a Class or an Operation (kOperations in the .cc file).
#ifndef DUNEBOX_JIT_FALLBACK_DECODE_OPCODE_TABLE_H_
#define DUNEBOX_JIT_FALLBACK_DECODE_OPCODE_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

// What a register number stands for.
enum class Kind : std::uint8_t {
  kNone,
  kByte,     // 8-bit general register
  kWord,     // 16-bit, or wider but not surely written in full
  kGeneral,  // 16, 32 or 64 bits by operand size
  kFull,     // 32 or 64 bits
  kVector,
  kMmx,
  kMask,
  kTile,
  kSegment,
  kControl,
  kDebug,
  kOther,  // x87, or no operand at all
};

struct Operand {
  Kind kind = Kind::kNone;
  Access access = Access::kNone;
  std::uint8_t traits = 0;  // follow from the above; kept for speed

  static constexpr std::uint8_t kIsGeneral = 1, kIsByte = 2, kOverwrites = 4, kIfSized = 8;

  static constexpr Operand Make(Kind kind, Access access) {
    if (access == Access::kNone) return {kind, access};
    const bool writes = access == Access::kWrite;
    switch (kind) {
      case Kind::kByte:
        return {kind, access, kIsGeneral | kIsByte};
      case Kind::kWord:
        return {kind, access, kIsGeneral};
      case Kind::kGeneral:
        return {kind, access,
                static_cast<std::uint8_t>(writes ? kIsGeneral | kIfSized : kIsGeneral)};
      case Kind::kFull:
        return {kind, access,
                static_cast<std::uint8_t>(writes ? kIsGeneral | kOverwrites : kIsGeneral)};
      case Kind::kNone:
      case Kind::kVector:
      case Kind::kMmx:
      case Kind::kMask:
      case Kind::kTile:
      case Kind::kSegment:
      case Kind::kControl:
      case Kind::kDebug:
      case Kind::kOther:
        return {kind, access};
    }
    return {};
  }

  constexpr bool IsGeneral() const { return (traits & kIsGeneral) != 0; }
  constexpr bool IsWideGeneral() const { return IsGeneral() && !IsByte(); }
  constexpr bool IsByte() const { return (traits & kIsByte) != 0; }
  constexpr bool Overwrites() const { return (traits & kOverwrites) != 0; }
  constexpr bool OverwritesIfSized() const { return (traits & kIfSized) != 0; }
};

enum class Immediate : std::uint8_t {
  kNone,
  kByte,
  kTwoBytes,
  kWord,
  kEnter,          // 16 and 8 bits
  kByOperand,      // 16 or 32 bits
  kByOperandFull,  // 16, 32 or 64 bits
  kOffset,         // moffs: 64 bits, or 32
  kBranchByte,
  kBranch,  // 32 bits
};
inline constexpr unsigned kImmediates = 10;

namespace tag {
inline constexpr std::uint32_t kModrm = 1 << 0;
inline constexpr std::uint32_t kLock = 1 << 1;
inline constexpr std::uint32_t kReadsFlags = 1 << 2;
inline constexpr std::uint32_t kOverwritesFlags = 1 << 3;
inline constexpr std::uint32_t kZero = 1 << 4;
inline constexpr std::uint32_t kNop = 1 << 5;     // 90: touches nothing unless REX.B
inline constexpr std::uint32_t kString = 1 << 6;  // REP also counts RCX
inline constexpr std::uint32_t kVectorIndex = 1 << 7;
inline constexpr std::uint32_t kMask = 1 << 8;  // EVEX.aaa
inline constexpr std::uint32_t kMaskNeeded = 1 << 9;
inline constexpr std::uint32_t kZeroing = 1 << 10;
inline constexpr std::uint32_t kBroadcast = 1 << 11;
inline constexpr std::uint32_t kRounding = 1 << 12;
inline constexpr std::uint32_t kSuppress = 1 << 13;     // {sae}
inline constexpr std::uint32_t kSizedWrite = 1 << 14;   // implicit ones are partial if 16 bits wide
inline constexpr std::uint32_t kSpecial = 1 << 15;      // the decoder has code for it
inline constexpr std::uint32_t kDistinct = 1 << 16;     // the destination is no source
inline constexpr std::uint32_t kConstrained = 1 << 17;  // not every encoding of the opcode
}  // namespace tag

inline constexpr unsigned kOverwrittenShift = 16;

// One form of one opcode. Forms of the same opcode are tried in the order of the text.
struct Form {
  std::uint32_t tags = 0;
  std::uint32_t implicit = 0;            // registers; those surely overwritten in full shifted up
  std::uint16_t next = 0;                // the next form of the same opcode; 0: none
  std::uint8_t regs = 0xff, rms = 0xff;  // bit n: value n of ModRM.reg, ModRM.rm is allowed
  std::uint8_t mods = 0;                 // bit 0 memory, bit 1 register
  std::uint8_t widths = 3;               // bit n: W = n is allowed
  std::uint8_t lengths = 0xf;            // bit n: vector length n is allowed
  Immediate immediate = Immediate::kNone;
  Class klass = Class::kCopy;
  Operation operation = Operation::kOther;
  Operand reg, rm, vvvv;     // without ModRM `rm` is the register in the opcode
  std::uint8_t general = 0, general_byte = 0;  // as of Instruction; follow from the above

  constexpr bool Has(std::uint32_t any) const { return (tags & any) != 0; }
};

// Opcode maps as the index counts them: legacy one byte, then legacy, VEX and EVEX maps with four
// mandatory prefixes each (none, 66, f3, f2).
inline constexpr unsigned kLegacyGroup = 1, kVexGroup = 13, kEvexGroup = 25, kGroups = 45;
inline constexpr unsigned kNoEvexMap = 0xff;
// Groups are four apart: maps 1, 2, 3, 5 and 6.
inline constexpr std::array<std::uint8_t, 8> kEvexMapGroup = {
    kNoEvexMap, kEvexGroup,      kEvexGroup + 4,  kEvexGroup + 8,
    kNoEvexMap, kEvexGroup + 12, kEvexGroup + 16, kNoEvexMap};

inline constexpr std::size_t kMaxForms = 4096;

struct OpcodeTable {
  std::array<std::array<std::uint16_t, 256>, kGroups> first{};  // 0: no form
  std::array<Form, kMaxForms> forms{};
  std::uint16_t count = 1;  // form 0 is none
};

extern const OpcodeTable kOpcodes;

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DECODE_OPCODE_TABLE_H_
