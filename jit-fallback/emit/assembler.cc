#include "jit-fallback/emit/assembler.h"

namespace dunebox::jit {
namespace {

constexpr std::uint8_t Low(Reg reg) { return static_cast<std::uint8_t>(reg) & 7; }
constexpr std::uint8_t High(Reg reg) { return static_cast<std::uint8_t>(reg) >> 3; }

}  // namespace

void Assembler::Grow(std::size_t bytes) { room_.resize(2 * (size_ + bytes)); }

// Segment prefix, REX.W, opcode, ModRM with a SIB byte that means "disp32 alone".
void Assembler::SlotMove(std::uint8_t opcode, std::uint32_t offset, Reg reg) {
  const auto rex = static_cast<std::uint8_t>(0x48 | (High(reg) << 2));
  const auto modrm = static_cast<std::uint8_t>((Low(reg) << 3) | 4);
  Bytes({context_prefix_, rex, opcode, modrm, 0x25});
  Value(offset);
}

void Assembler::LoadSlotByte(Reg reg, std::uint32_t offset) {
  Bytes({context_prefix_, 0x0f, 0xb6, static_cast<std::uint8_t>((Low(reg) << 3) | 4), 0x25});
  Value(offset);
}

// gs prefix, VEX.0F38.W1 F5 with the mandatory prefix f2 (3) or f3 (2). [intel/vol2 PDEP, PEXT]
void Assembler::BitsBySlot(unsigned prefix, Reg to, Reg from, std::uint32_t slot) {
  const auto source = static_cast<unsigned>(from);
  Bytes({0x65, 0xc4, static_cast<std::uint8_t>(High(to) != 0 ? 0x62 : 0xe2),
         static_cast<std::uint8_t>(0x80 | ((~source & 15) << 3) | prefix), 0xf5,
         static_cast<std::uint8_t>((Low(to) << 3) | 4), 0x25});
  Value(slot);
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

void Assembler::MoveImmediate16(Reg reg, std::uint16_t value) {
  Byte(0x66);
  if (High(reg) != 0) Byte(0x41);
  Byte(static_cast<std::uint8_t>(0xb8 | Low(reg)));
  Value(value);
}

void Assembler::Move(Reg to, Reg from) {
  Bytes({static_cast<std::uint8_t>(0x48 | (High(from) << 2) | High(to)), 0x89,
         static_cast<std::uint8_t>(0xc0 | (Low(from) << 3) | Low(to))});
}

void Assembler::LoadAddress(Reg to, Reg base, Reg index, unsigned log_scale) {
  Bytes({static_cast<std::uint8_t>(0x48 | (High(to) << 2) | (High(index) << 1) | High(base)), 0x8d,
         static_cast<std::uint8_t>((Low(to) << 3) | 4),
         static_cast<std::uint8_t>((log_scale << 6) | (unsigned{Low(index)} << 3) | Low(base))});
}

void Assembler::MoveExtended(Reg to, Reg from, unsigned log_size) {
  const auto rex = static_cast<std::uint8_t>(0x48 | (High(to) << 2) | High(from));
  const auto modrm = static_cast<std::uint8_t>(0xc0 | (Low(to) << 3) | Low(from));
  if (log_size == 1) {
    Bytes({rex, 0x0f, 0xbf, modrm});  // movsx
  } else {
    Bytes({rex, static_cast<std::uint8_t>(log_size == 2 ? 0x63 : 0x8b), modrm});  // movsxd, mov
  }
}

// VEX.F3.0F38.W1 F7. [intel/vol2 SARX]
void Assembler::ShiftRight(Reg reg, Reg count) {
  const auto number = static_cast<unsigned>(count);
  Bytes({0xc4, static_cast<std::uint8_t>(High(reg) != 0 ? 0x42 : 0xe2),
         static_cast<std::uint8_t>(0x80 | ((~number & 15) << 3) | 2), 0xf7,
         static_cast<std::uint8_t>(0xc0 | (Low(reg) << 3) | Low(reg))});
}

void Assembler::ZeroExtend(Reg reg) {
  if (High(reg) != 0) Byte(0x45);
  Bytes({0x89, static_cast<std::uint8_t>(0xc0 | (Low(reg) << 3) | Low(reg))});
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
