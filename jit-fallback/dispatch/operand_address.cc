#include "jit-fallback/dispatch/operand_address.h"

#include <cstring>

#include "jit-fallback/decode/operand_size.h"
#include "jit-fallback/emit/confinement.h"
#include "jit-fallback/emit/encoding.h"
#include "jit-fallback/emit/implicit_operands.h"

namespace dunebox::jit {
namespace {

std::uint64_t SegmentBase(Segment segment, const AddressRegisters& registers) {
  if (segment == Segment::kNone) return 0;
  return segment == Segment::kFs ? registers.fs_base : registers.gs_base;
}

// From the operand to the word that has the bit.
std::uint64_t BitStringOffset(const Instruction& instruction, const AddressRegisters& registers) {
  const unsigned log_size = LogBitStringWord(instruction);
  const unsigned unused = 64 - (8U << log_size);
  const auto number =
      static_cast<std::int64_t>(registers.gpr[Number(RegField(instruction))] << unused) >> unused;
  return static_cast<std::uint64_t>((number >> (log_size + 3)) * (1 << log_size));
}

}  // namespace

std::uint64_t OperandAddress(const Instruction& instruction, std::span<const std::uint8_t> bytes,
                             const AddressRegisters& registers) {
  std::uint64_t address = 0;
  if (instruction.modrm_offset == 0) {
    std::memcpy(&address, bytes.data() + instruction.displacement_offset,
                instruction.displacement_size);
  } else {
    address = static_cast<std::uint64_t>(std::int64_t{instruction.displacement});
    if (HasScaledDisplacement(instruction)) address *= DisplacementUnit(instruction, bytes);
    const unsigned rm = instruction.modrm & 7;
    const unsigned base = rm == 4 ? instruction.sib & 7U : rm;
    const bool has_base = instruction.modrm >> 6 != 0 || base != 5;
    if (instruction.rip_relative) {
      address += registers.rip + instruction.length;
    } else if (has_base) {
      address += registers.gpr[base | ((instruction.rex & 1) != 0 ? 8U : 0U)];
    }
    const unsigned index =
        ((instruction.sib >> 3) & 7U) | ((instruction.rex & 2) != 0 ? 8U : 0U);
    if (rm == 4 && index != kRsp && instruction.operation != Operation::kGatherScatter) {
      address += registers.gpr[index] << (instruction.sib >> 6);
    }
  }
  if (IsBitString(instruction)) address += BitStringOffset(instruction, registers);
  if (instruction.address_size) address &= 0xffff'ffff;
  return address + SegmentBase(instruction.segment, registers);
}

}  // namespace dunebox::jit
