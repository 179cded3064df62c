#include "tests/security/checker/operands.h"

#include <algorithm>

#include "tests/security/checker/rules.h"

namespace dunebox::checker {
namespace {

// More than any operand's size that Zydis does not know (XSAVE areas), more than what XLAT adds.
constexpr std::uint64_t kLargestOperand = 64 << 10;

bool Contains(std::span<const Slot> slots, std::int64_t offset, std::int64_t size) {
  return std::ranges::any_of(slots, [&](const Slot& slot) {
    return offset >= slot.offset && size > 0 && offset + size <= slot.offset + slot.size;
  });
}

bool FitsSigned32(std::int64_t value) { return value == static_cast<std::int32_t>(value); }

unsigned WidthOf(Register reg) {
  return static_cast<unsigned>(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg));
}

class OperandCheck {
 public:
  OperandCheck(const Instruction& instruction, const State& state, Isolation isolation)
      : instruction_(instruction), state_(state), isolation_(isolation) {}

  // Why the operand is not confined; empty: it is.
  std::string Explain(const Operand& operand) const {
    return isolation_ == Isolation::kSeg ? ExplainInWindow(operand) : ExplainInUserHalf(operand);
  }
  // The same for an access through a register that is no operand.
  std::string ExplainBase(Register base, std::uint64_t distance) const {
    const std::optional<unsigned> number = GeneralNumber(base);
    if (!number || WidthOf(base) != 64) {
      return "the base is no 64-bit register";
    }
    const Value& value = state_.general[*number];
    const std::string name = ZydisRegisterGetString(base);
    if (!value.drift) return name + " is not confined";
    const std::uint64_t most = isolation_ == Isolation::kSeg ? kWindowReach : kReach;
    const bool is_near = *value.drift + distance < most;
    return is_near ? std::string() : name + " may be too far away";
  }

 private:
  std::string ExplainInUserHalf(const Operand& operand) const;
  std::string ExplainInWindow(const Operand& operand) const;
  std::string ExplainBitNumber() const;
  // The sum is cut to 32 bits, bit numbers (measured on Zen) and vector indices included. Not that
  // of stack operands, which the prefix does not change.
  bool IsCut(const Operand& operand) const {
    return instruction_.has_32_bit_address() && WidthOf(operand.mem.base) != 64 &&
           WidthOf(operand.mem.index) != 64;
  }
  std::uint64_t SizeOf(const Operand& operand) const {
    return std::max<std::uint64_t>(operand.size / 8, kLargestOperand);
  }

  const Instruction& instruction_;
  const State& state_;
  const Isolation isolation_;
};

// How far a bit number in a register may reach is part of the operand.
std::string OperandCheck::ExplainBitNumber() const {
  const Operand& number = instruction_.all[1];
  // 2^31 bits are 256 MiB.
  if (number.size <= 32) return {};
  constexpr unsigned kFewBits = 34;
  if (state_.general[*GeneralNumber(number.reg.value)].bits <= kFewBits) return {};
  return "the bit number may be any";
}

std::string OperandCheck::ExplainInUserHalf(const Operand& operand) const {
  const auto& memory = operand.mem;
  const bool is_vector = memory.type == ZYDIS_MEMOP_TYPE_VSIB;
  if (memory.type != ZYDIS_MEMOP_TYPE_MEM && !is_vector) return "of no known kind";
  if (memory.segment == ZYDIS_REGISTER_GS) return "through GS";
  const bool has_base = memory.base != ZYDIS_REGISTER_NONE;
  const bool has_index = memory.index != ZYDIS_REGISTER_NONE;
  const std::int64_t displacement = Displacement(operand);
  // What MOVDIR64B writes is in ES, whatever prefix there is for its source. [intel/vol2 MOVDIR64B]
  const bool is_in_es = instruction_.mnemonic() == ZYDIS_MNEMONIC_MOVDIR64B && MayWrite(operand);
  if (memory.segment == ZYDIS_REGISTER_FS && !is_in_es) {
    // The FS base is of the user half, and the guard is wider than 4 GiB.
    if (IsCut(operand)) return {};
    if (has_base || has_index) return "FS base and a register";
    return FitsSigned32(displacement) ? "" : "too far from the FS base";
  }
  if (IsCut(operand)) return {};
  if (has_index && (!is_vector || !HasDwordIndices(instruction_))) return "an index register";
  if (IsBitString(instruction_)) {
    if (std::string why = ExplainBitNumber(); !why.empty()) return why;
  }
  if (!has_base) {
    const bool is_constant = static_cast<std::uint64_t>(displacement) < kUserHalfEnd;
    return is_constant || FitsSigned32(displacement) ? "" : "an address outside the user half";
  }
  if (memory.base == ZYDIS_REGISTER_RIP) return "relative to RIP";
  constexpr std::uint64_t kBitStringReach = std::uint64_t{2} << 30;
  const std::uint64_t bits = IsBitString(instruction_) ? kBitStringReach : 0;
  return ExplainBase(memory.base, Distance(displacement) + SizeOf(operand) + bits);
}

std::string OperandCheck::ExplainInWindow(const Operand& operand) const {
  const auto& memory = operand.mem;
  if (memory.type != ZYDIS_MEMOP_TYPE_MEM && memory.type != ZYDIS_MEMOP_TYPE_VSIB) {
    return "of no known kind";
  }
  if (memory.segment == ZYDIS_REGISTER_GS) {
    return IsCut(operand) ? "" : "through GS with 64 bits of address";
  }
  if (memory.segment == ZYDIS_REGISTER_FS) return "through FS";
  if (memory.index != ZYDIS_REGISTER_NONE) return "not through GS, and an index register";
  const bool is_implicit = operand.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
  if (!is_implicit && memory.base != ZYDIS_REGISTER_RSP) return "not through GS";
  return ExplainBase(memory.base, Distance(Displacement(operand)));
}

bool IsJudged(const Operand& operand, Isolation isolation) {
  return isolation != Isolation::kMaskWrites || MayWrite(operand);
}

// ENTER with a nesting level of two and more reads the frames that RBP points at.
bool ReadsFrames(const Instruction& instruction) {
  return instruction.mnemonic() == ZYDIS_MNEMONIC_ENTER &&
         (instruction.decoded.raw.imm[1].value.u & 31) > 1;
}

// GS is the segment of an operand that is not listed.
bool IsThroughGs(const Instruction& instruction) {
  constexpr std::uint8_t kGs = 0x65, kSegments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, kGs};
  std::uint8_t segment = 0;
  for (unsigned i = 0; i < instruction.decoded.raw.prefix_count; ++i) {
    const std::uint8_t prefix = instruction.decoded.raw.prefixes[i].value;
    if (std::ranges::find(kSegments, prefix) != std::end(kSegments)) segment = prefix;
  }
  return segment == kGs;
}

std::string ExplainHidden(const Instruction& instruction, const OperandCheck& check,
                          Isolation isolation) {
  constexpr std::uint64_t kLine = 64, kFrames = 32 * 8;
  for (const HiddenAccess& row : HiddenAccesses()) {
    if (row.mnemonic != instruction.mnemonic()) continue;
    if (isolation == Isolation::kMaskWrites && !row.writes) continue;
    const Register base = row.base == ZYDIS_REGISTER_NONE ? instruction.all[0].reg.value : row.base;
    if (instruction.has_32_bit_address() && (IsMask(isolation) || IsThroughGs(instruction)))
      continue;
    if (std::string why = check.ExplainBase(base, kLine); !why.empty()) return why;
  }
  if (ReadsFrames(instruction) && isolation != Isolation::kMaskWrites) {
    return check.ExplainBase(ZYDIS_REGISTER_RBP, kFrames);
  }
  return {};
}

}  // namespace

std::optional<Complaint> CheckSlots(const Instruction& instruction, Isolation isolation) {
  for (const Operand& operand : instruction.operands()) {
    if (!IsMemory(operand) || IsNotAccessed(instruction, operand)) continue;
    if (operand.mem.segment != ContextSegment(isolation)) continue;
    if (!IsSlot(instruction, operand, isolation)) {
      return Complaint{"context", "an address in the context segment that is not a constant"};
    }
    const std::int64_t offset = Displacement(operand), size = operand.size / 8;
    if (MayRead(operand) && !Contains(LoadableSlots(), offset, size)) {
      return Complaint{"context-load", "no slot that may be read"};
    }
    if (!MayWrite(operand)) continue;
    if (instruction.mnemonic() != ZYDIS_MNEMONIC_MOV || MayRead(operand)) {
      return Complaint{"context-store", "slots are stored to by MOV only"};
    }
    if (!Contains(StorableSlots(), offset, size)) {
      return Complaint{"context-store", "no slot that may be written"};
    }
  }
  return std::nullopt;
}

std::optional<Complaint> CheckOperands(const Instruction& instruction, const State& state,
                                       Isolation isolation) {
  if (!IsMask(isolation) && isolation != Isolation::kSeg) return std::nullopt;
  const OperandCheck check(instruction, state, isolation);
  for (const Operand& operand : instruction.operands()) {
    if (!IsMemory(operand) || IsNotAccessed(instruction, operand)) continue;
    if (operand.mem.segment == ContextSegment(isolation)) continue;  // CheckSlots
    if (!IsJudged(operand, isolation)) continue;
    if (std::string why = check.Explain(operand); !why.empty()) {
      return Complaint{"operand", std::move(why)};
    }
  }
  if (std::string why = ExplainHidden(instruction, check, isolation); !why.empty()) {
    return Complaint{"operand", std::move(why)};
  }
  return std::nullopt;
}

}  // namespace dunebox::checker
