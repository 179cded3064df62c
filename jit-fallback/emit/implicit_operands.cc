#include "jit-fallback/emit/implicit_operands.h"

#include "jit-fallback/emit/confinement.h"
#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {

ImplicitOperands ImplicitOf(const Instruction& instruction,
                            std::span<const std::uint8_t> bytes) {
  constexpr std::uint16_t kSource = Bit(Reg::kRsi), kDestination = Bit(Reg::kRdi);
  switch (instruction.operation) {
    case Operation::kStringNoRep:
    case Operation::kStringRep:
      switch (instruction.opcode & 0xfe) {
        case 0xa4:  // movs
          return {.read = kSource, .written = kDestination};
        case 0xaa:  // stos
          return {.written = kDestination};
        case 0xac:  // lods
          return {.read = kSource};
        case 0xae:  // scas
          return {.read = kDestination};
        default:  // cmps
          return {.read = kSource | kDestination};
      }
    case Operation::kXlat:
      return {.read = Bit(Reg::kRbx)};
    case Operation::kMaskMove:
      return {.written = kDestination};
    case Operation::kClzero:
      return {.written = Bit(Reg::kRax)};
    case Operation::kMonitor:
      return {.read = Bit(Reg::kRax)};
    case Operation::kMovdir64b:
    case Operation::kEnqcmd:
      return {.written = Bit(RegField(instruction))};
    case Operation::kEnter: {  // from the second level on it reads the frame RBP points at
      const bool reads_frame = (bytes[instruction.immediate_offset + 2U] & 31) > 1;
      return {.read = reads_frame ? Bit(Reg::kRbp) : std::uint16_t{0}};
    }
    case Operation::kLeave:  // becomes the stack pointer
      return {.written = Bit(Reg::kRbp)};
    default:
      return {};
  }
}

StackUse StackUseOf(const Instruction& instruction) {
  if (instruction.encoding != Encoding::kLegacy) return StackUse::kNone;
  const unsigned opcode = instruction.opcode;
  if (instruction.opcode_map == 1) {
    if (opcode == 0xa0 || opcode == 0xa8) return StackUse::kPush;
    return opcode == 0xa1 || opcode == 0xa9 ? StackUse::kPop : StackUse::kNone;
  }
  if (instruction.opcode_map != 0) return StackUse::kNone;
  if ((opcode & 0xf8) == 0x50 || opcode == 0x68 || opcode == 0x6a || opcode == 0x9c ||
      (opcode == 0xff && ((instruction.modrm >> 3) & 7) == 6)) {
    return StackUse::kPush;
  }
  const bool pops = (opcode & 0xf8) == 0x58 || opcode == 0x8f || opcode == 0x9d || opcode == 0xc9;
  return pops ? StackUse::kPop : StackUse::kNone;
}

bool IsBitString(const Instruction& instruction) {
  return instruction.has_memory && instruction.encoding == Encoding::kLegacy &&
         instruction.opcode_map == 1 &&
         (instruction.opcode == 0xa3 || instruction.opcode == 0xab || instruction.opcode == 0xb3 ||
          instruction.opcode == 0xbb);
}

unsigned LogBitStringWord(const Instruction& instruction) {
  if ((instruction.rex & 8) != 0) return 3;
  return instruction.operand_size ? 1 : 2;
}

}  // namespace dunebox::jit
