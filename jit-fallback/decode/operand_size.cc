#include "jit-fallback/decode/operand_size.h"

#include <algorithm>
#include <iterator>

namespace dunebox::jit {
namespace {

// A size in bytes, or one of these.
enum Size : std::int16_t {
  kNone = 0,
  kByOperand = -1,    // 2, 4 or 8
  kWide = -2,         // 4, with W 8
  kFull = -3,         // the vector
  kHalf = -4,
  kQuarter = -5,
  kEighth = -6,
  kByPrefix = -7,     // the vector; with F3 4, with F2 8
  kMmx = -8,          // 8, with 66 16
  kFarPointer = -9,   // a selector behind an offset
  kStack = -10,       // 8, with 66 2
  kHalfIfNarrow = -11,  // half of the vector, with W all of it
  kDuplicated = -13,  // MOVDDUP: 8 of 128 bits, else all
  kEnvironment = -14,  // x87: 28, with 66 14
  kX87State = -15,     // 108, with 66 94
  kPair = -16,         // CMPXCHG8B and 16B
};
constexpr Size Bytes(int count) { return static_cast<Size>(count); }

// Encodings and maps.
constexpr std::uint16_t kLegacy0 = 1, kLegacy1 = 2, kLegacy2 = 4, kLegacy3 = 8, kVexMap1 = 16, kVexMap2 = 32, kVexMap3 = 64,
                        kEvexMap1 = 128, kEvexMap2 = 256, kEvexMap3 = 512, kEvexMap5 = 1024, kEvexMap6 = 2048;
constexpr std::uint16_t kMap1 = kLegacy1 | kVexMap1 | kEvexMap1, kMap2 = kLegacy2 | kVexMap2 | kEvexMap2,
                        kMap3 = kLegacy3 | kVexMap3 | kEvexMap3, kVector1 = kVexMap1 | kEvexMap1,
                        kVector2 = kVexMap2 | kEvexMap2, kVector3 = kVexMap3 | kEvexMap3;
// Mandatory prefixes.
constexpr std::uint8_t kNp = 1, k66 = 2, kF3 = 4, kF2 = 8, kAny = 15;
// ModRM.reg.
constexpr std::uint8_t kAll = 0xff;
constexpr std::uint8_t Reg(unsigned first, unsigned last) {
  return static_cast<std::uint8_t>((2U << last) - (1U << first));
}

struct Row {
  std::uint16_t maps;
  std::uint8_t first, last;  // opcodes
  std::uint8_t prefixes;
  std::uint8_t regs;
  Size size;
};

// The first that fits. [intel/vol2 chapters 3 to 5]
constexpr Row kRows[] = {
    // One-byte opcodes: of pairs the first is of bytes, see Find.
    {kLegacy0, 0x62, 0x63, kAny, kAll, Bytes(4)},
    {kLegacy0, 0x69, 0x6b, kAny, kAll, kByOperand},
    {kLegacy0, 0x83, 0x83, kAny, kAll, kByOperand},
    {kLegacy0, 0x8c, 0x8c, kAny, kAll, Bytes(2)},
    {kLegacy0, 0x8e, 0x8e, kAny, kAll, Bytes(2)},
    {kLegacy0, 0x8f, 0x8f, kAny, kAll, kStack},
    {kLegacy0, 0xd8, 0xd8, kAny, kAll, Bytes(4)},
    {kLegacy0, 0xd9, 0xd9, kAny, Reg(0, 3), Bytes(4)},
    {kLegacy0, 0xd9, 0xd9, kAny, Reg(4, 4) | Reg(6, 6), kEnvironment},
    {kLegacy0, 0xd9, 0xd9, kAny, kAll, Bytes(2)},
    {kLegacy0, 0xdb, 0xdb, kAny, Reg(5, 7), Bytes(10)},
    {kLegacy0, 0xda, 0xdb, kAny, kAll, Bytes(4)},
    {kLegacy0, 0xdc, 0xdc, kAny, kAll, Bytes(8)},
    {kLegacy0, 0xdd, 0xdd, kAny, Reg(0, 3), Bytes(8)},
    {kLegacy0, 0xdd, 0xdd, kAny, Reg(4, 6), kX87State},
    {kLegacy0, 0xdd, 0xde, kAny, kAll, Bytes(2)},
    {kLegacy0, 0xdf, 0xdf, kAny, Reg(0, 3), Bytes(2)},
    {kLegacy0, 0xdf, 0xdf, kAny, Reg(4, 4) | Reg(6, 6), Bytes(10)},
    {kLegacy0, 0xdf, 0xdf, kAny, kAll, Bytes(8)},
    {kLegacy0, 0xff, 0xff, kAny, Reg(2, 2) | Reg(4, 4), Bytes(8)},
    {kLegacy0, 0xff, 0xff, kAny, Reg(3, 3) | Reg(5, 5), kFarPointer},
    {kLegacy0, 0xff, 0xff, kAny, Reg(6, 6), kStack},

    // Map 1: moves and arithmetic of vectors.
    {kLegacy1, 0x00, 0x03, kAny, kAll, Bytes(2)},
    {kMap1, 0x12, 0x12, kF2, kAll, kDuplicated},
    {kMap1, 0x12, 0x12, kNp | k66, kAll, Bytes(8)},
    {kMap1, 0x12, 0x12, kF3, kAll, kFull},
    {kMap1, 0x16, 0x16, kF3, kAll, kFull},
    {kMap1, 0x16, 0x16, kNp | k66, kAll, Bytes(8)},
    {kMap1, 0x13, 0x13, kAny, kAll, Bytes(8)},
    {kMap1, 0x17, 0x17, kAny, kAll, Bytes(8)},
    {kLegacy1, 0x2a, 0x2a, kNp | k66, kAll, Bytes(8)},
    {kMap1, 0x2a, 0x2a, kF3 | kF2, kAll, kWide},
    {kEvexMap1, 0x7b, 0x7b, kF3 | kF2, kAll, kWide},
    {kLegacy1, 0x2c, 0x2d, kNp, kAll, Bytes(8)},
    {kMap1, 0x2e, 0x2f, kNp, kAll, Bytes(4)},
    {kMap1, 0x2e, 0x2f, k66, kAll, Bytes(8)},
    {kLegacy1, 0x40, 0x4f, kAny, kAll, kByOperand},
    {kMap1, 0x5a, 0x5a, kNp, kAll, kHalf},
    {kMap1, 0x5b, 0x5b, kAny, kAll, kFull},
    {kLegacy1, 0x60, 0x62, kNp, kAll, Bytes(4)},
    {kMap1, 0x6e, 0x6e, kAny, kAll, kWide},
    {kMap1, 0x7e, 0x7e, kF3, kAll, Bytes(8)},
    {kMap1, 0x7e, 0x7e, kAny, kAll, kWide},
    {kLegacy1, 0x60, 0x76, kNp, kAll, kMmx},
    {kMap1, 0x6f, 0x70, kAny, kAll, kFull},
    {kLegacy1, 0x78, 0x78, kNp, kAll, Bytes(8)},
    {kEvexMap1, 0x78, 0x79, k66, kAll, kHalfIfNarrow},
    {kEvexMap1, 0x78, 0x79, kF3, kAll, Bytes(4)},
    {kEvexMap1, 0x78, 0x79, kF2, kAll, Bytes(8)},
    {kEvexMap1, 0x7a, 0x7a, k66 | kF3, kAll, kHalfIfNarrow},
    {kEvexMap1, 0x7a, 0x7a, kF2, kAll, kFull},
    {kEvexMap1, 0x7b, 0x7b, k66, kAll, kHalfIfNarrow},
    {kLegacy1, 0x7f, 0x7f, kNp, kAll, Bytes(8)},
    {kMap1, 0x7c, 0x7f, kAny, kAll, kFull},
    {kLegacy1, 0x90, 0x9f, kAny, kAll, Bytes(1)},
    {kVexMap1, 0x90, 0x91, kAny, kAll, kNone},  // see MaskSize
    {kLegacy1, 0xa0, 0xad, kAny, kAll, kByOperand},
    {kLegacy1, 0xae, 0xae, kNp, Reg(0, 1), Bytes(512)},
    {kLegacy1 | kVexMap1, 0xae, 0xae, kNp, Reg(2, 3), Bytes(4)},
    {kLegacy1, 0xae, 0xae, kF3, Reg(4, 4), kWide},
    {kLegacy1, 0xae, 0xae, kAny, kAll, kNone},
    {kLegacy1, 0xaf, 0xaf, kAny, kAll, kByOperand},
    {kLegacy1, 0xb0, 0xb0, kAny, kAll, Bytes(1)},
    {kLegacy1, 0xb2, 0xb2, kAny, kAll, kFarPointer},
    {kLegacy1, 0xb4, 0xb5, kAny, kAll, kFarPointer},
    {kLegacy1, 0xb6, 0xb6, kAny, kAll, Bytes(1)},
    {kLegacy1, 0xb7, 0xb7, kAny, kAll, Bytes(2)},
    {kLegacy1, 0xbe, 0xbe, kAny, kAll, Bytes(1)},
    {kLegacy1, 0xbf, 0xbf, kAny, kAll, Bytes(2)},
    {kLegacy1, 0xb1, 0xbd, kAny, kAll, kByOperand},
    {kLegacy1, 0xc0, 0xc0, kAny, kAll, Bytes(1)},
    {kLegacy1, 0xc1, 0xc1, kAny, kAll, kByOperand},
    {kLegacy1, 0xc3, 0xc3, kAny, kAll, kWide},
    {kMap1, 0xc4, 0xc4, kAny, kAll, Bytes(2)},
    {kLegacy1, 0xc7, 0xc7, kAny, Reg(1, 1), kPair},
    {kLegacy1, 0xc7, 0xc7, kAny, kAll, kNone},
    {kVexMap1, 0xd0, 0xd0, kAny, kAll, kFull},
    {kMap1, 0xd6, 0xd6, kAny, kAll, Bytes(8)},
    {kEvexMap1, 0xe6, 0xe6, kF3, kAll, kHalfIfNarrow},
    {kMap1, 0xe6, 0xe6, kF3, kAll, kHalf},
    {kMap1, 0xe6, 0xe6, kAny, kAll, kFull},
    {kMap1, 0xf0, 0xf0, kAny, kAll, kFull},
    {kVector1, 0xd1, 0xd3, kAny, kAll, Bytes(16)},  // the counts of shifts
    {kVector1, 0xe1, 0xe2, kAny, kAll, Bytes(16)},
    {kVector1, 0xf1, 0xf3, kAny, kAll, Bytes(16)},
    {kLegacy1, 0xd0, 0xff, kAny, kAll, kMmx},
    {kMap1, 0x00, 0xff, kAny, kAll, kByPrefix},

    // Map 2.
    {kEvexMap2, 0x10, 0x10, kF3, kAll, kHalf},  // stores of narrowed elements
    {kEvexMap2, 0x11, 0x11, kF3, kAll, kQuarter},
    {kEvexMap2, 0x12, 0x12, kF3, kAll, kEighth},
    {kEvexMap2, 0x13, 0x13, kF3, kAll, kHalf},
    {kEvexMap2, 0x14, 0x14, kF3, kAll, kQuarter},
    {kEvexMap2, 0x15, 0x15, kF3, kAll, kHalf},
    {kVector2, 0x13, 0x13, kAny, kAll, kHalf},
    {kVector2, 0x18, 0x18, kAny, kAll, Bytes(4)},  // broadcasts
    {kVector2, 0x19, 0x19, kAny, kAll, Bytes(8)},
    {kVector2, 0x1a, 0x1a, kAny, kAll, Bytes(16)},
    {kEvexMap2, 0x1b, 0x1b, kAny, kAll, Bytes(32)},
    {kMap2, 0x20, 0x20, kAny, kAll, kHalf},  // widening, and narrowing
    {kMap2, 0x21, 0x21, kAny, kAll, kQuarter},
    {kMap2, 0x22, 0x22, kAny, kAll, kEighth},
    {kMap2, 0x23, 0x23, kAny, kAll, kHalf},
    {kMap2, 0x24, 0x24, kAny, kAll, kQuarter},
    {kMap2, 0x25, 0x25, kAny, kAll, kHalf},
    {kMap2, 0x30, 0x30, kAny, kAll, kHalf},
    {kMap2, 0x31, 0x31, kAny, kAll, kQuarter},
    {kMap2, 0x32, 0x32, kAny, kAll, kEighth},
    {kMap2, 0x33, 0x33, kAny, kAll, kHalf},
    {kMap2, 0x34, 0x34, kAny, kAll, kQuarter},
    {kMap2, 0x35, 0x35, kAny, kAll, kHalf},
    {kEvexMap2, 0x2d, 0x2d, kAny, kAll, kWide},
    {kEvexMap2, 0x43, 0x43, kAny, kAll, kWide},
    {kVexMap2, 0x49, 0x49, kAny, kAll, Bytes(64)},
    {kVexMap2, 0x4b, 0x4b, kAny, kAll, kNone},
    {kEvexMap2, 0x4d, 0x4d, kAny, kAll, kWide},
    {kEvexMap2, 0x4f, 0x4f, kAny, kAll, kWide},
    {kEvexMap2, 0x52, 0x53, kF2, kAll, Bytes(16)},
    {kVector2, 0x58, 0x58, kAny, kAll, Bytes(4)},
    {kVector2, 0x59, 0x59, kAny, kAll, Bytes(8)},
    {kVector2, 0x5a, 0x5a, kAny, kAll, Bytes(16)},
    {kEvexMap2, 0x5b, 0x5b, kAny, kAll, Bytes(32)},
    {kVector2, 0x78, 0x78, kAny, kAll, Bytes(1)},
    {kVector2, 0x79, 0x79, kAny, kAll, Bytes(2)},
    {kVector2, 0x90, 0x93, kAny, kAll, kNone},
    {kEvexMap2, 0xa0, 0xa3, kAny, kAll, kNone},
    {kEvexMap2, 0x9a, 0x9b, kF2, kAll, Bytes(16)},
    {kEvexMap2, 0xaa, 0xab, kF2, kAll, Bytes(16)},
    {kEvexMap2, 0xcb, 0xcb, kAny, kAll, kWide},
    {kEvexMap2, 0xcd, 0xcd, kAny, kAll, kWide},
    {kLegacy2, 0xc8, 0xcd, kAny, kAll, Bytes(16)},
    {kLegacy2, 0xd8, 0xd8, kF3, Reg(0, 1), Bytes(48)},  // key locker: handles of 384 and 512 bits
    {kLegacy2, 0xd8, 0xd8, kF3, kAll, Bytes(64)},
    {kLegacy2, 0xdc, 0xdd, kF3, kAll, Bytes(48)},
    {kLegacy2, 0xde, 0xdf, kF3, kAll, Bytes(64)},
    {kLegacy2, 0xf0, 0xf0, kF2, kAll, Bytes(1)},
    {kLegacy2, 0xf0, 0xf1, kAny, kAll, kByOperand},
    {kLegacy2, 0xf8, 0xf8, kAny, kAll, Bytes(64)},
    {kLegacy2 | kVexMap2, 0xf2, 0xf9, kAny, kAll, kWide},
    {kLegacy2, 0x00, 0xff, kAny, kAll, kMmx},

    // Map 3.
    {kEvexMap3, 0x0a, 0x0a, kNp, kAll, Bytes(2)},
    {kMap3, 0x0a, 0x0a, kAny, kAll, Bytes(4)},
    {kMap3, 0x0b, 0x0b, kAny, kAll, Bytes(8)},
    {kLegacy3, 0x0f, 0x0f, kAny, kAll, kMmx},
    {kMap3, 0x14, 0x14, kAny, kAll, Bytes(1)},
    {kMap3, 0x15, 0x15, kAny, kAll, Bytes(2)},
    {kMap3, 0x16, 0x16, kAny, kAll, kWide},
    {kMap3, 0x17, 0x17, kAny, kAll, Bytes(4)},
    {kVector3, 0x18, 0x19, kAny, kAll, Bytes(16)},
    {kEvexMap3, 0x1a, 0x1b, kAny, kAll, Bytes(32)},
    {kVector3, 0x1d, 0x1d, kAny, kAll, kHalf},
    {kMap3, 0x20, 0x20, kAny, kAll, Bytes(1)},
    {kMap3, 0x21, 0x21, kAny, kAll, Bytes(4)},
    {kMap3, 0x22, 0x22, kAny, kAll, kWide},
    {kVector3, 0x38, 0x39, kAny, kAll, Bytes(16)},
    {kEvexMap3, 0x3a, 0x3b, kAny, kAll, Bytes(32)},
    {kEvexMap3, 0x27, 0x27, kNp, kAll, Bytes(2)},  // scalars; half-precision ones without prefix
    {kEvexMap3, 0x57, 0x57, kNp, kAll, Bytes(2)},
    {kEvexMap3, 0x67, 0x67, kNp, kAll, Bytes(2)},
    {kEvexMap3, 0x27, 0x27, kAny, kAll, kWide},
    {kEvexMap3, 0x51, 0x51, kAny, kAll, kWide},
    {kEvexMap3, 0x55, 0x55, kAny, kAll, kWide},
    {kEvexMap3, 0x57, 0x57, kAny, kAll, kWide},
    {kEvexMap3, 0x67, 0x67, kAny, kAll, kWide},
    {kEvexMap3, 0xc2, 0xc2, kF3, kAll, Bytes(2)},
    {kVexMap3, 0x6a, 0x6a, kAny, kAll, Bytes(4)},  // FMA with four operands
    {kVexMap3, 0x6b, 0x6b, kAny, kAll, Bytes(8)},
    {kVexMap3, 0x6e, 0x6e, kAny, kAll, Bytes(4)},
    {kVexMap3, 0x6f, 0x6f, kAny, kAll, Bytes(8)},
    {kVexMap3, 0x7a, 0x7a, kAny, kAll, Bytes(4)},
    {kVexMap3, 0x7b, 0x7b, kAny, kAll, Bytes(8)},
    {kVexMap3, 0x7e, 0x7e, kAny, kAll, Bytes(4)},
    {kVexMap3, 0x7f, 0x7f, kAny, kAll, Bytes(8)},
    {kVexMap3, 0xf0, 0xf0, kAny, kAll, kWide},

    // Maps 5 and 6: half precision.
    {kEvexMap5, 0x1d, 0x1d, kNp, kAll, Bytes(4)},
    {kEvexMap5, 0x2a, 0x2a, kAny, kAll, kWide},
    {kEvexMap5, 0x7b, 0x7b, kF3, kAll, kWide},
    {kEvexMap5, 0x2e, 0x2f, kAny, kAll, Bytes(2)},
    {kEvexMap5, 0x5a, 0x5a, kNp, kAll, kQuarter},
    {kEvexMap5, 0x5a, 0x5a, kF2, kAll, Bytes(8)},
    {kEvexMap5, 0x5b, 0x5b, k66 | kF3, kAll, kHalf},
    {kEvexMap5, 0x6e, 0x6e, kAny, kAll, Bytes(2)},
    {kEvexMap5, 0x7e, 0x7e, kAny, kAll, Bytes(2)},
    {kEvexMap5, 0x78, 0x79, kNp, kAll, kHalf},
    {kEvexMap5, 0x78, 0x7b, k66, kAll, kQuarter},
    {kEvexMap5, 0x7a, 0x7a, kF2, kAll, kFull},
    {kEvexMap5, 0x7d, 0x7d, kAny, kAll, kFull},
    {kEvexMap5, 0x00, 0xff, kF3, kAll, Bytes(2)},
    {kEvexMap6, 0x13, 0x13, kNp, kAll, Bytes(2)},
    {kEvexMap6, 0x13, 0x13, k66, kAll, kHalf},
    {kEvexMap6, 0x2d, 0x2d, kAny, kAll, Bytes(2)},
    {kEvexMap6, 0x43, 0x43, kAny, kAll, Bytes(2)},
    {kEvexMap6, 0x4d, 0x4d, kAny, kAll, Bytes(2)},
    {kEvexMap6, 0x4f, 0x4f, kAny, kAll, Bytes(2)},
    {kEvexMap6, 0x57, 0x57, kAny, kAll, Bytes(4)},
    {kEvexMap6, 0xd7, 0xd7, kAny, kAll, Bytes(4)},
};

// Multiplications with an addition, of which every other is of scalars.
bool IsScalarFma(unsigned opcode) {
  const unsigned low = opcode & 15;
  return opcode >= 0x99 && opcode <= 0xbf && (opcode & 0xf0) >= 0x90 && low >= 9 && low % 2 == 1;
}

// What the prefixes of an instruction say, whichever they are.
struct Encoded {
  std::uint16_t map = 0;
  std::uint8_t prefix = kNp;
  bool is_broadcast = false;
  unsigned vector = 16;  // bytes
};

std::uint16_t MapOf(const Instruction& instruction) {
  const unsigned map = instruction.opcode_map;
  switch (instruction.encoding) {
    case Encoding::kLegacy:
      return static_cast<std::uint16_t>(kLegacy0 << map);
    case Encoding::kVex2:
    case Encoding::kVex3:
      return static_cast<std::uint16_t>(kVexMap1 << (map - 1));
    case Encoding::kEvex:
      return static_cast<std::uint16_t>(kEvexMap1 << (map < 4 ? map - 1 : map - 2));
  }
  return 0;
}

// As VEX.pp has them.
constexpr std::uint8_t kPrefixes[] = {kNp, k66, kF3, kF2};

Encoded EncodedBy(const Instruction& instruction, std::span<const std::uint8_t> bytes) {
  Encoded result{.map = MapOf(instruction), .vector = 16U << instruction.vector_length};
  const std::size_t start = instruction.prefix_length;
  switch (instruction.encoding) {
    case Encoding::kLegacy:
      if (instruction.operand_size) result.prefix = k66;
      for (const std::uint8_t byte : bytes.first(instruction.opcode_offset)) {
        if (byte == 0xf3) result.prefix = kF3;
        if (byte == 0xf2) result.prefix = kF2;
      }
      break;
    case Encoding::kVex2:
      result.prefix = kPrefixes[bytes[start + 1] & 3];
      break;
    case Encoding::kVex3:
      result.prefix = kPrefixes[bytes[start + 2] & 3];
      break;
    case Encoding::kEvex:
      result.prefix = kPrefixes[bytes[start + 2] & 3];
      result.is_broadcast = (bytes[start + 3] & 0x10) != 0;
      break;
  }
  return result;
}

Size Find(const Instruction& instruction, const Encoded& encoded) {
  const unsigned opcode = instruction.opcode;
  const auto reg = static_cast<std::uint8_t>(1U << ((instruction.modrm >> 3) & 7));
  const auto* const row = std::ranges::find_if(kRows, [&](const Row& each) {
    return (each.maps & encoded.map) != 0 && opcode >= each.first && opcode <= each.last &&
           (each.prefixes & encoded.prefix) != 0 && (each.regs & reg) != 0;
  });
  if (row != std::end(kRows)) return row->size;
  if (encoded.map == kLegacy0) return opcode % 2 == 0 ? Bytes(1) : kByOperand;
  if ((encoded.map & (kVexMap2 | kEvexMap2)) != 0 && IsScalarFma(opcode)) return kWide;
  if (encoded.map == kEvexMap6 && IsScalarFma(opcode)) return Bytes(2);
  return kFull;
}

// KMOV: 66 halves, W is four times as much.
unsigned MaskSize(bool is_wide, const Encoded& encoded) {
  return (is_wide ? 8U : 2U) >> (encoded.prefix == k66 ? 1U : 0U);
}

// Of one element that EVEX.b repeats.
unsigned ElementSize(const Instruction& instruction, const Encoded& encoded) {
  const unsigned by_width = (instruction.rex & 8) != 0 ? 8 : 4;
  const unsigned opcode = instruction.opcode;
  if (encoded.map == kEvexMap3) return encoded.prefix == kNp ? 2 : by_width;
  if (encoded.map == kEvexMap6) return opcode == 0x56 || opcode == 0xd6 ? 4 : 2;
  if (encoded.map != kEvexMap5) return by_width;
  if ((opcode == 0x5a && encoded.prefix == k66) || (opcode == 0x5b && encoded.prefix == kNp) ||
      (opcode == 0x7a && encoded.prefix == kF2)) {
    return by_width;
  }
  return opcode == 0x1d ? 4 : 2;
}

unsigned SizeOf(const Instruction& instruction, const Encoded& encoded) {
  const bool is_wide = (instruction.rex & 8) != 0;
  const bool is_short = instruction.operand_size && !is_wide;
  const unsigned by_operand = is_wide ? 8 : is_short ? 2 : 4;
  if (encoded.is_broadcast) return ElementSize(instruction, encoded);
  if (encoded.map == kVexMap1 && (instruction.opcode & 0xfe) == 0x90) return MaskSize(is_wide, encoded);
  const Size size = Find(instruction, encoded);
  switch (size) {
    case kByOperand:
      return by_operand;
    case kWide:
      return is_wide ? 8 : 4;
    case kFull:
      return encoded.vector;
    case kHalf:
      return encoded.vector / 2;
    case kQuarter:
      return encoded.vector / 4;
    case kEighth:
      return encoded.vector / 8;
    case kByPrefix:
      return encoded.prefix == kF3 ? 4 : encoded.prefix == kF2 ? 8 : encoded.vector;
    case kMmx:
      return encoded.prefix == kNp ? 8 : encoded.vector;
    case kFarPointer:
      return by_operand + 2;
    case kStack:
      return is_short ? 2 : 8;
    case kHalfIfNarrow:
      return is_wide ? encoded.vector : encoded.vector / 2;
    case kDuplicated:
      return encoded.vector == 16 ? 8 : encoded.vector;
    case kEnvironment:
      return is_short ? 14 : 28;
    case kX87State:
      return is_short ? 94 : 108;
    case kPair:
      return is_wide ? 16 : 8;
    default:
      return static_cast<unsigned>(size);
  }
}

}  // namespace

unsigned OperandSize(const Instruction& instruction, std::span<const std::uint8_t> bytes) {
  return SizeOf(instruction, EncodedBy(instruction, bytes));
}

unsigned DisplacementUnit(const Instruction& instruction, std::span<const std::uint8_t> bytes) {
  if (instruction.encoding != Encoding::kEvex) return 1;
  const bool is_wide = (instruction.rex & 8) != 0;
  if (instruction.operation == Operation::kGatherScatter) return is_wide ? 8 : 4;
  if (instruction.opcode_map == 2) {
    // What is compressed or expanded counts elements.
    const unsigned opcode = instruction.opcode;
    if (opcode == 0x62 || opcode == 0x63) return is_wide ? 2 : 1;
    if (opcode >= 0x88 && opcode <= 0x8b) return is_wide ? 8 : 4;
  }
  return OperandSize(instruction, bytes);
}

}  // namespace dunebox::jit
