#include "jit-fallback/emit/assembler.h"

namespace dunebox::jit {
namespace {

constexpr std::uint8_t Low(Reg reg) { return static_cast<std::uint8_t>(reg) & 7; }
constexpr std::uint8_t High(Reg reg) { return static_cast<std::uint8_t>(reg) >> 3; }

}  // namespace

// Segment prefix, REX.W, opcode, ModRM with a SIB byte that means "disp32 alone".
void Assembler::SlotMove(std::uint8_t opcode, std::uint32_t offset, Reg reg) {
  const auto rex = static_cast<std::uint8_t>(0x48 | (High(reg) << 2));
  const auto modrm = static_cast<std::uint8_t>((Low(reg) << 3) | 4);
  Bytes({context_prefix_, rex, opcode, modrm, 0x25});
  Value(offset);
}

void Assembler::StoreSlotImmediate32(std::uint32_t offset, std::uint32_t value) {
  Bytes({context_prefix_, 0xc7, 0x04, 0x25});
  Value(offset);
  Value(value);
}

void Assembler::StoreSlotImmediate(std::uint32_t offset, std::uint64_t value) {
  if (FitsSigned32(value)) {
    Bytes({context_prefix_, 0x48, 0xc7, 0x04, 0x25});
    Value(offset);
    Value(static_cast<std::uint32_t>(value));
    return;
  }
  StoreSlotImmediate32(offset, static_cast<std::uint32_t>(value));
  StoreSlotImmediate32(offset + 4, static_cast<std::uint32_t>(value >> 32));
}

void Assembler::MoveImmediate(Reg reg, std::uint64_t value) {
  const auto opcode = static_cast<std::uint8_t>(0xb8 | Low(reg));
  if (value <= 0xffff'ffff) {
    if (High(reg) != 0) Byte(0x41);
    Byte(opcode);
    Value(static_cast<std::uint32_t>(value));
  } else if (FitsSigned32(value)) {
    Bytes({static_cast<std::uint8_t>(0x48 | High(reg)), 0xc7,
           static_cast<std::uint8_t>(0xc0 | Low(reg))});
    Value(static_cast<std::uint32_t>(value));
  } else {
    Bytes({static_cast<std::uint8_t>(0x48 | High(reg)), opcode});
    Value(value);
  }
}

void Assembler::Move(Reg to, Reg from) {
  Bytes({static_cast<std::uint8_t>(0x48 | (High(from) << 2) | High(to)), 0x89,
         static_cast<std::uint8_t>(0xc0 | (Low(from) << 3) | Low(to))});
}

void Assembler::Push(Reg reg) {
  if (High(reg) != 0) Byte(0x41);
  Byte(static_cast<std::uint8_t>(0x50 | Low(reg)));
}

void Assembler::Pop(Reg reg) {
  if (High(reg) != 0) Byte(0x41);
  Byte(static_cast<std::uint8_t>(0x58 | Low(reg)));
}

void Assembler::JumpThroughSlot(std::uint32_t offset) {
  Bytes({context_prefix_, 0xff, 0x24, 0x25});
  Value(offset);
}

void Assembler::JumpThroughTable(std::uint32_t table) {
  Bytes({context_prefix_, 0xff, 0x24, 0xcd});
  Value(table);
}

std::uint32_t Assembler::Jump(std::uint64_t target) {
  Byte(0xe9);
  const std::uint32_t at = size();
  Value(static_cast<std::int32_t>(target - (here() + 4)));
  return at;
}

}  // namespace dunebox::jit
