#include "jit-fallback/emit/destination.h"

#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

// Which of its ModRM operands an instruction writes; kUnknown also where others are written.
enum class Destination : std::uint8_t { kNone, kReg, kRm, kUnknown };

Destination DestinationOf(const Instruction& instruction) {
  if (instruction.encoding != Encoding::kLegacy) return Destination::kUnknown;
  const unsigned opcode = instruction.opcode;
  // AH to BH are numbered like RSP to RDI.
  const bool is_byte = instruction.opcode_map == 0 && (opcode & 1) == 0 && opcode != 0x8d;
  if (is_byte && instruction.rex == 0) return Destination::kUnknown;
  const unsigned extension = (instruction.modrm >> 3) & 7U;
  if (instruction.opcode_map == 1) {
    const bool moves_to_reg = (opcode >= 0x40 && opcode <= 0x4f) || opcode == 0xaf ||
                              opcode == 0xb6 || opcode == 0xb7 || opcode == 0xbe || opcode == 0xbf;
    if (moves_to_reg) return Destination::kReg;  // cmovcc, imul, movzx, movsx
    // movups to movaps, comiss, arithmetic on xmm: no general register is written
    const bool vector = opcode == 0x10 || opcode == 0x11 || opcode == 0x28 || opcode == 0x29 ||
                        opcode == 0x2e || opcode == 0x2f || opcode == 0x54 || opcode == 0x57 ||
                        (opcode >= 0x58 && opcode <= 0x5f) || opcode == 0x6f || opcode == 0x7f ||
                        opcode == 0xef;
    return vector ? Destination::kNone : Destination::kUnknown;
  }
  if (instruction.opcode_map != 0) return Destination::kUnknown;
  if (opcode < 0x40 && (opcode & 7) < 4) {  // add to cmp
    if (opcode >= 0x38) return Destination::kNone;
    return (opcode & 2) != 0 ? Destination::kReg : Destination::kRm;
  }
  switch (opcode) {
    case 0x63:
    case 0x69:
    case 0x6b:
    case 0x8a:
    case 0x8b:
    case 0x8d:
      return Destination::kReg;  // movsxd, imul, mov, lea
    case 0x84:
    case 0x85:
      return Destination::kNone;  // test
    case 0x88:
    case 0x89:
    case 0xc6:
    case 0xc7:
      return Destination::kRm;  // mov
    case 0x80:
    case 0x81:
    case 0x83:
      return extension == 7 ? Destination::kNone : Destination::kRm;
    case 0xf6:
    case 0xf7:
      return extension < 2   ? Destination::kNone
             : extension < 4 ? Destination::kRm
                             : Destination::kUnknown;
    case 0xfe:
    case 0xff:
      return extension < 2 ? Destination::kRm : Destination::kUnknown;
    default:
      return Destination::kUnknown;
  }
}

}  // namespace

std::uint16_t WrittenBy(const Instruction& instruction) {
  const auto among_touched = [&](unsigned number) {
    return static_cast<std::uint16_t>(instruction.registers & (1U << number));
  };
  switch (DestinationOf(instruction)) {
    case Destination::kNone:
      return 0;
    case Destination::kReg:
      return among_touched(((instruction.modrm >> 3) & 7U) | ((instruction.rex & 4) != 0 ? 8U : 0U));
    case Destination::kRm:
      if (instruction.modrm >> 6 != 3) return 0;
      return among_touched((instruction.modrm & 7U) | ((instruction.rex & 1) != 0 ? 8U : 0U));
    case Destination::kUnknown:
      return instruction.registers;
  }
  return instruction.registers;
}

bool MayWrite(const Instruction& instruction, Reg reg) {
  return (instruction.registers & Bit(reg)) != 0 && (WrittenBy(instruction) & Bit(reg)) != 0;
}

}  // namespace dunebox::jit
