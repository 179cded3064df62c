// The emitter's memory operands: RIP-relative ones become absolute, GS-relative ones and those out
// of reach go through scratch registers.
#include <algorithm>
#include <utility>

#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

// For addresses that need a register of their own. No REX bit to name them, no special case as a
// base.
constexpr Reg kScratchRegisters[] = {Reg::kRdx, Reg::kRsi, Reg::kRdi,
                                     Reg::kRax, Reg::kRbx, Reg::kRcx};
// The second is only added to the first.
constexpr Reg kSecondScratchRegisters[] = {Reg::kRbp, Reg::kR8, Reg::kR9, Reg::kR10};
// CMPXCHG8B and CMPXCHG16B name four registers beside those of their address, and none that a REX
// byte would change.
constexpr Reg kWideExchangeScratchRegisters[] = {Reg::kR8, Reg::kR9, Reg::kR10};
constexpr std::array<std::uint32_t, 2> kScratchSlots = {JIT_SLOT_SCRATCH0, JIT_SLOT_SCRATCH1};

// pop [rsp + ...]: the address is of the stack pointer behind the pop. [intel/vol2 POP]
bool IsPopThroughStack(const Instruction& instruction) {
  const bool has_rsp_base =
      (instruction.modrm & 7) == 4 && (instruction.sib & 7) == kRsp && (instruction.rex & 1) == 0;
  return instruction.encoding == Encoding::kLegacy && instruction.opcode_map == 0 &&
         instruction.opcode == 0x8f && has_rsp_base;
}

bool IsWideExchange(const Instruction& instruction) {
  return instruction.encoding == Encoding::kLegacy && instruction.opcode_map == 1 &&
         instruction.opcode == 0xc7 && ((instruction.modrm >> 3) & 7) == 1;
}

// A prefix that does not go with [base] in place of the operand. A REX byte in front of another
// prefix means nothing, until it is the last one left.
bool IsReplacedPrefix(std::uint8_t prefix, bool adds_segment) {
  // Bit strings add to a 32-bit address after the base: it has to stay one, where no segment is in
  // it.
  return prefix == kSegmentGsPrefix || (prefix & 0xf0) == 0x40 ||
         (adds_segment && (IsSegmentPrefix(prefix) || prefix == kAddressSizePrefix));
}

}  // namespace

// The base of the segment would have to be added to a register that the instruction does not name.
bool Emitter::HasImplicitSegment(const Instruction& instruction) const {
  // From the FS base on 4 GiB may be reached as it is.
  const bool is_near = masks() && instruction.segment == Segment::kFs && instruction.address_size;
  return AddsSegment(instruction) && !instruction.has_memory && !is_near;
}

// Addresses that no register holds.
bool Emitter::IsGatherForRuntime(const Instruction& gather) const {
  if (gather.segment == Segment::kGs || IsWindowed()) return AddsSegment(gather);
  constexpr std::uint8_t kWideIndices = 1;
  return masks() && !IsReadAsItIs(gather) &&
         ((gather.opcode & kWideIndices) != 0 || gather.segment != Segment::kNone);
}

// What the emitter leaves to the runtime although it could be copied elsewhere.
bool Emitter::IsForRuntime(const Instruction& instruction) const {
  switch (instruction.operation) {
    case Operation::kXgetbv:
      return options_.hidden_components != 0;
    case Operation::kRdFsGsBase:
      return IsWindowed();
    case Operation::kWrFsBase:
      return masks() || IsWindowed();  // the base has to be checked
    case Operation::kGatherScatter:
      return IsGatherForRuntime(instruction);
    case Operation::kStringNoRep:
    case Operation::kStringRep:
    case Operation::kXlat:
    case Operation::kMaskMove:
      return HasImplicitSegment(instruction);
    default:
      return false;
  }
}

// Forms for which there is no code, under this isolation.
bool Emitter::IsRefused(const Instruction& instruction) const {
  if (IsWindowed() && IsRefusedInWindow(instruction)) return true;
  switch (instruction.operation) {
    case Operation::kMovdir64b:
    case Operation::kEnqcmd:
      // Without the prefix, which goes when a segment's base is added, their destination is of 64
      // bits.
      return instruction.address_size && AddsSegment(instruction);
    case Operation::kTileMemory:
      // The index register is the distance of the rows: [base] alone cannot take its place.
      return instruction.segment == Segment::kGs || (masks() && !IsReadAsItIs(instruction));
    default:
      return HasImplicitSegment(instruction);
  }
}

std::uint32_t Emitter::LeaveInsteadOf(const Instruction& instruction) const {
  if (IsForRuntime(instruction)) return JIT_TO_EMULATE;
  return IsRefused(instruction) ? JIT_TO_TRAP : 0;
}

// The base of the segment is part of the address that is put into a register.
bool Emitter::AddsSegment(const Instruction& instruction) const {
  return instruction.segment == Segment::kGs ||
         ((masks() || IsWindowed()) && instruction.segment == Segment::kFs);
}

void Emitter::LoadSegmentBase(Reg to, Segment segment) {
  code_.LoadSlot(to, segment == Segment::kFs ? JIT_FS_BASE : JIT_GS_BASE);
}

// Adds the guest's base of the segment to `address`; `scratch` is free.
void Emitter::AddSegmentBase(Segment segment, Reg address, Reg scratch) {
  LoadSegmentBase(scratch, segment);
  code_.LoadAddress(address, address, scratch, 0);
}

bool Emitter::HasFreeDestination(const Instruction& instruction) {
  return std::ranges::any_of(kScratchRegisters, [&](Reg reg) {
    return (instruction.overwritten & Bit(reg)) != 0;
  });
}

bool Emitter::TakeScratch(const Instruction& instruction, unsigned count, Scratch kind) {
  unsigned taken = 0;
  scratch_is_destination_ = false;
  scratch_in_slot_ = {};
  for (const Reg reg : kScratchRegisters) {
    if (kind != Scratch::kMaybeDestination || (instruction.overwritten & Bit(reg)) == 0) continue;
    scratch_[0] = static_cast<std::uint8_t>(reg);
    // Otherwise its value is in the slot of its own.
    scratch_in_slot_[0] = reg != Reg::kRcx || rcx_.in_register;
    if (scratch_in_slot_[0]) code_.StoreSlot(kScratchSlots[0], reg);
    scratch_is_destination_ = true;
    taken = 1;
    break;
  }
  const auto take = [&](std::span<const Reg> registers) {
    for (const Reg reg : registers) {
      if (taken == count) return;
      if ((instruction.registers & Bit(reg)) != 0) continue;
      if (taken == 1 && scratch_[0] == static_cast<std::uint8_t>(reg)) continue;
      // Its slot is in use already: RCX must be what the recovery entry says it is.
      if (reg == Reg::kRcx && !rcx_.in_register) continue;
      scratch_[taken] = static_cast<std::uint8_t>(reg);
      code_.StoreSlot(kScratchSlots[taken], reg);
      scratch_in_slot_[taken] = true;
      ++taken;
    }
  };
  take(kScratchRegisters);
  if (taken == 0 && IsWideExchange(instruction)) take(kWideExchangeScratchRegisters);
  if (taken == 1) take(kSecondScratchRegisters);
  return taken == count;
}

void Emitter::ReleaseScratch(unsigned index, std::int32_t guest) {
  const bool is_result = index == 0 && scratch_is_destination_;
  if (!is_result) code_.LoadSlot(static_cast<Reg>(scratch_[index]), kScratchSlots[index]);
  scratch_in_slot_[index] = false;
  MarkAt(RecoveryKind::kFixed, guest);
}

// Where a RIP-relative operand lies. [intel/vol2 §2.2.1.6]
std::uint64_t Emitter::RipTarget(const Step& step) const {
  const std::uint64_t target =
      block_->NextOf(step) +
      static_cast<std::uint64_t>(std::int64_t{step.instruction.displacement});
  return step.instruction.address_size ? target & 0xffff'ffff : target;
}

// An index register that a RIP-relative operand ignored would count now. REX or the first byte of
// VEX or EVEX is at `at`.
void Emitter::ClearIndex(Encoding encoding, std::uint8_t rex, std::uint32_t at) {
  switch (encoding) {
    case Encoding::kLegacy:
      if (rex != 0) code_.Patch8(at, static_cast<std::uint8_t>(code_.code()[at] & ~2));
      break;
    case Encoding::kVex2:
      break;
    case Encoding::kVex3:
    case Encoding::kEvex:
      code_.Patch8(at + 1, static_cast<std::uint8_t>(code_.code()[at + 1] | 0x40));
      break;
  }
}

// [rip + disp32] becomes [disp32]: one byte longer, no register.
void Emitter::EmitRipAbsolute(const Step& step, std::uint64_t target) {
  const Instruction& instruction = step.instruction;
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  const std::uint32_t start = code_.size();
  code_.Copy(bytes.first(instruction.modrm_offset));
  code_.Bytes({static_cast<std::uint8_t>((instruction.modrm & 0x38) | 4), 0x25});
  code_.Value(static_cast<std::uint32_t>(target));
  NoteAddress(target);
  code_.Copy(bytes.subspan(instruction.modrm_offset + 5U));
  ClearIndex(instruction.encoding, instruction.rex, start + instruction.prefix_length);
}

// The instruction with [base + displacement] in place of its memory operand, without the guest's
// segment. `base` is one of the low eight registers, neither RSP nor RBP; of a wide exchange, also
// one of R8 to R10. With a displacement the instruction has none of its own.
void Emitter::EmitWithBase(const Step& step, Reg base, std::uint32_t displacement) {
  const Instruction& instruction = step.instruction;
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  const std::uint8_t mod = displacement == 0 ? 0 : 0x80;
  if (IsWindowed()) EmitWindowPrefixes();
  for (const std::uint8_t prefix : bytes.first(instruction.prefix_length)) {
    if (!IsReplacedPrefix(prefix, IsWindowed() || AddsSegment(instruction))) code_.Byte(prefix);
  }
  if (instruction.modrm_offset == 0) {  // moffs: mov al/ax/eax/rax to or from an absolute address
    if (instruction.rex != 0) code_.Byte(static_cast<std::uint8_t>(instruction.rex & ~7));
    constexpr std::uint8_t kModrmForms[] = {0x8a, 0x8b, 0x88, 0x89};
    code_.Bytes({kModrmForms[instruction.opcode & 3], static_cast<std::uint8_t>(mod | Low(base))});
    if (mod != 0) code_.Value(displacement);
    return;
  }
  unsigned at = instruction.prefix_length;
  switch (instruction.encoding) {
    case Encoding::kLegacy:
      if (base >= Reg::kR8) {
        const unsigned rex = instruction.rex != 0 ? bytes[at++] & ~3U : 0x40U;
        code_.Byte(static_cast<std::uint8_t>(rex | 1));
      } else if (instruction.rex != 0) {
        code_.Byte(static_cast<std::uint8_t>(bytes[at++] & ~3));
      }
      break;
    case Encoding::kVex2:
      break;
    case Encoding::kVex3:
    case Encoding::kEvex:
      code_.Bytes({bytes[at], static_cast<std::uint8_t>(bytes[at + 1] | 0x60)});
      at += 2;
      break;
  }
  code_.Copy(bytes.subspan(at, instruction.modrm_offset - at));
  if (HasScaledDisplacement(instruction)) {
    code_.Bytes({static_cast<std::uint8_t>(0x40 | (instruction.modrm & 0x38) | Low(base)),
                 bytes[instruction.displacement_offset]});
  } else {
    code_.Byte(static_cast<std::uint8_t>(mod | (instruction.modrm & 0x38) | Low(base)));
    if (mod != 0) code_.Value(displacement);
  }
  if (instruction.immediate_size != 0) {
    code_.Copy(bytes.subspan(instruction.immediate_offset));
  }
}

// lea to, [the instruction's operand], without any segment, and without a displacement that stays
// with the instruction.
void Emitter::EmitAddress(const Step& step, Reg to) {
  const Instruction& instruction = step.instruction;
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  if (instruction.rip_relative) {
    std::uint64_t target = RipTarget(step);
    if (options_.map_target && instruction.segment != Segment::kGs) {
      target = options_.map_target(target);
    }
    code_.MoveImmediate(to, target);
    NoteAddress(target);
    return;
  }
  if (instruction.modrm_offset == 0) {
    std::uint64_t address = 0;
    std::memcpy(&address, bytes.data() + instruction.displacement_offset,
                instruction.displacement_size);
    code_.MoveImmediate(to, address);
    return;
  }
  if (instruction.address_size) code_.Byte(0x67);
  const unsigned high = to < Reg::kR8 ? 0 : 4;
  code_.Bytes({static_cast<std::uint8_t>(0x48 | high | (instruction.rex & 3)), 0x8d,
               static_cast<std::uint8_t>((instruction.modrm & 0xc7) | (Low(to) << 3))});
  // SIB and displacement as they are.
  const unsigned from = instruction.modrm_offset + 1U;
  if (HasScaledDisplacement(instruction)) {
    code_.Copy(bytes.subspan(from, instruction.displacement_offset - from));
    code_.Byte(0);
    return;
  }
  const unsigned end = instruction.displacement_size != 0
                           ? instruction.displacement_offset + instruction.displacement_size
                       : (instruction.modrm & 7) == 4 ? from + 1
                                                      : from;
  code_.Copy(bytes.subspan(from, end - from));
}

void Emitter::EmitThroughScratch(const Step& step) {
  const Instruction& instruction = step.instruction;
  const bool adds_segment = AddsSegment(instruction);
  const std::int32_t here = step.offset;
  const std::int32_t next = here + instruction.length;
  MarkAt(RecoveryKind::kFixed, here);
  if (!TakeScratch(instruction, adds_segment ? 2 : 1, Scratch::kMaybeDestination)) {
    EmitLeave(JIT_TO_TRAP, block_->PcOf(step), here);
    return;
  }
  MarkAt(RecoveryKind::kFixed, here);
  const auto base = static_cast<Reg>(scratch_[0]);
  EmitAddress(step, base);
  if (IsPopThroughStack(instruction)) {
    const std::uint8_t popped = instruction.operand_size ? 2 : 8;
    code_.Bytes({0x48, 0x8d, static_cast<std::uint8_t>(0x40 | (Low(base) << 3) | Low(base)),
                 popped});  // lea base, [base + popped]
  }
  if (adds_segment) {
    const auto segment_base = static_cast<Reg>(scratch_[1]);
    AddSegmentBase(instruction.segment, base, segment_base);
    ReleaseScratch(1, here);
  }
  if (masks() && !IsConfinedOperand(step)) code_.Deposit(base, base, JIT_CONFINING_MASK);
  EmitWithBase(step, base);
  SettleRegisters(step);
  MarkAt(RecoveryKind::kFixed, next);
  ReleaseScratch(0, next);
}

}  // namespace dunebox::jit
