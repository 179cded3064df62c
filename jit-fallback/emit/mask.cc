// The emitter's part of isolation `mask`: each operand is made one that can only reach the user
// half, or a fault. The rules are in docs/isolation.md.
#include <cstring>

#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/destination.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/encoding.h"
#include "jit-fallback/emit/implicit_operands.h"

namespace dunebox::jit {
namespace {

bool UsesStackOnly(const Instruction& instruction) {
  return instruction.operation == Operation::kEnter || instruction.operation == Operation::kLeave;
}

bool IsVsibWithBase(const Instruction& gather) {
  return gather.modrm >> 6 != 0 || (gather.sib & 7) != 5;
}

bool IsNear(const Instruction& instruction) {
  return instruction.displacement > -Confinement::kNear &&
         instruction.displacement < Confinement::kNear;
}

// LEAVE takes its stack pointer from RBP.
bool AccessesStack(const Instruction& instruction) {
  const bool is_operand = PlainBase(instruction) == static_cast<int>(kRsp);
  return is_operand || instruction.operation == Operation::kEnter ||
         (StackUseOf(instruction) != StackUse::kNone &&
          instruction.operation != Operation::kLeave);
}

}  // namespace

void Emitter::SettleMaskedStack(std::int32_t guest) {
  if (confinement_.IsStackSettled()) return;
  MarkAt(RecoveryKind::kFixed, guest);
  code_.Deposit(Reg::kRsp, Reg::kRsp, JIT_CONFINING_MASK);
  confinement_.Set(kRsp);
}

// RSP may hold anything as long as it is not used: it is confined when it is.
void Emitter::SettleStackForAccess(std::int32_t guest) {
  if (masks() && !confinement_.IsConfined(kRsp)) SettleMaskedStack(guest);
}

// Reads are free under mask-writes.
bool Emitter::IsReadAsItIs(const Instruction& instruction) const {
  return options_.isolation == Isolation::kMaskWrites && instruction.segment != Segment::kGs &&
         instruction.access == Access::kRead;
}

// It reaches the user half or nothing, by its form or by what is known of its base.
bool Emitter::IsConfinedOperand(const Step& step) const {
  const Instruction& instruction = step.instruction;
  if (!instruction.has_memory || instruction.access == Access::kNone) return true;
  if (IsReadAsItIs(instruction)) return true;
  if (instruction.segment == Segment::kGs) return false;
  const bool has_segment = instruction.segment != Segment::kNone;
  // In front of the next: its address becomes a register's, without the prefix.
  if (instruction.rip_relative) return !has_segment && RipTarget(step) < kUserHalfEnd;
  if (instruction.address_size) return true;  // 4 GiB from 0 or from the FS base
  if (instruction.modrm_offset == 0) {
    std::uint64_t address = 0;
    std::memcpy(&address, BytesOf(step).data() + instruction.displacement_offset, 8);
    return !has_segment && address < kUserHalfEnd;
  }
  const int base = PlainBase(instruction);
  if (base >= 0) return !has_segment && confinement_.IsConfined(static_cast<unsigned>(base));
  const bool is_absolute = instruction.modrm == ((instruction.modrm & 0x38) | 4) &&
                           (instruction.sib & 0x3f) == 0x25 && (instruction.rex & 2) == 0;
  return is_absolute && instruction.operation != Operation::kGatherScatter;
}

// Whether the block goes on to change the register: then making it wait for PDEP slows a loop.
bool Emitter::IsChangedLater(const Step& step, Reg reg) const {
  for (const Step& later : block_->steps) {
    if (later.offset > step.offset && MayWrite(later.instruction, reg)) return true;
  }
  return false;
}

void Emitter::ConfineInPlace(Reg reg, std::int32_t guest) {
  MarkAt(RecoveryKind::kFixed, guest);
  code_.Deposit(reg, reg, JIT_CONFINING_MASK);
  confined_now_ |= Bit(reg);
  confinement_.Set(static_cast<unsigned>(reg));
  MarkAt(RecoveryKind::kFixed, guest);
}

void Emitter::EmitMasked(const Step& step) {
  const Instruction& instruction = step.instruction;
  const std::int32_t next = step.offset + instruction.length;
  if (AccessesStack(instruction)) SettleStackForAccess(step.offset);
  const ImplicitOperands implicit = ImplicitOf(instruction, BytesOf(step));
  const bool reads_count = options_.isolation == Isolation::kMask;
  auto in_place = static_cast<std::uint16_t>(implicit.written | (reads_count ? implicit.read : 0));
  if (instruction.address_size && !UsesStackOnly(instruction)) in_place = 0;  // below 4 GiB
  const bool is_gather = instruction.operation == Operation::kGatherScatter;
  if (is_gather && !IsReadAsItIs(instruction) && IsVsibWithBase(instruction)) {
    in_place |= static_cast<std::uint16_t>(1U << ((instruction.sib & 7U) |
                                                  ((instruction.rex & 1) != 0 ? 8U : 0U)));
  }
  for (unsigned reg = 0; reg < 16; ++reg) {
    if (((in_place >> reg) & 1) != 0 && !confinement_.IsConfined(reg)) {
      ConfineInPlace(static_cast<Reg>(reg), step.offset);
    }
  }
  if (is_gather) {
    EmitPlain(step);
  } else if (IsBitString(instruction) && !IsReadAsItIs(instruction)) {
    EmitBitString(step);
  } else {
    EmitMaskedOperand(step);
  }
  // What may not have been accessed may be no address.
  for (unsigned reg = 0; reg < 16; ++reg) {
    if (((confined_now_ >> reg) & 1) == 0) continue;
    MarkAt(RecoveryKind::kFixed, next);
    code_.Extract(static_cast<Reg>(reg), static_cast<Reg>(reg), JIT_CONFINING_MASK);
    confinement_.Clear(reg);
    confined_now_ &= static_cast<std::uint16_t>(~(1U << reg));
  }
  MarkAt(RecoveryKind::kFixed, next);
}

void Emitter::EmitMaskedOperand(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (IsConfinedOperand(step)) {
    EmitPlain(step);
    return;
  }
  const int plain = PlainBase(instruction);
  if (plain < 0 || instruction.segment != Segment::kNone || !IsNear(instruction)) {
    EmitThroughScratch(step);
    return;
  }
  const auto base = static_cast<Reg>(plain);
  const bool may_keep = SurelyAccesses(instruction, BytesOf(step));
  if (may_keep && (!IsChangedLater(step, base) || !HasFreeDestination(instruction))) {
    ConfineInPlace(base, step.offset);
    EmitPlain(step);
    return;
  }
  EmitThroughScratch(step);
}

// The bit's place in its word goes to a register of its own, as does the word's address:
// t = number >> 4..6, s = operand + t * size, t = number % bits.
void Emitter::EmitBitString(const Step& step) {
  const Instruction& instruction = step.instruction;
  const std::int32_t here = step.offset;
  const unsigned log_size = LogBitStringWord(instruction);
  const bool is_wide = log_size == 3;
  const bool is_word = log_size == 1;
  MarkAt(RecoveryKind::kFixed, here);
  if (!TakeScratch(instruction, 2, Scratch::kMaybeDestination)) {
    EmitLeave(JIT_TO_TRAP, block_->PcOf(step), here);
    return;
  }
  MarkAt(RecoveryKind::kFixed, here);
  const auto address = static_cast<Reg>(scratch_[0]);
  const auto number = static_cast<Reg>(scratch_[1]);
  const Reg source = RegField(instruction);
  const auto extend = [&] { code_.MoveExtended(number, source, log_size); };
  extend();
  code_.MoveImmediate(address, log_size + 3);
  code_.ShiftRight(number, address);  // by the number in `address`
  EmitAddress(step, address);
  code_.LoadAddress(address, address, number, log_size);
  if (instruction.address_size) code_.ZeroExtend(address);
  if (AddsSegment(instruction)) AddSegmentBase(instruction.segment, address, number);
  code_.Deposit(address, address, JIT_CONFINING_MASK);
  extend();
  code_.Extract(number, number,
                is_wide   ? JIT_BIT_PLACE_64
                : is_word ? JIT_BIT_PLACE_16
                          : JIT_BIT_PLACE_32);
  if (instruction.lock) code_.Byte(kLockPrefix);
  if (is_word) code_.Byte(kOperandSizePrefix);
  code_.Bytes({static_cast<std::uint8_t>(0x40 | (is_wide ? 8 : 0) | (number >= Reg::kR8 ? 4 : 0)),
               0x0f, instruction.opcode,
               static_cast<std::uint8_t>((Low(number) << 3) | Low(address))});
  SettleRegisters(step);
  const std::int32_t next = here + instruction.length;
  MarkAt(RecoveryKind::kFixed, next);
  ReleaseScratch(1, next);
  ReleaseScratch(0, next);
}

// mov r11, [operand], for an indirect jump; R11 and RCX are free.
void Emitter::EmitMaskedTarget(const Step& step) {
  const Instruction& instruction = step.instruction;
  const int plain = PlainBase(instruction);
  if (plain >= 0 && instruction.segment == Segment::kNone && IsNear(instruction)) {
    code_.Deposit(Reg::kR11, static_cast<Reg>(plain), JIT_CONFINING_MASK);
    code_.Bytes({0x4d, 0x8b, 0x9b});  // mov r11, [r11 + displacement]
    code_.Value(instruction.displacement);
    return;
  }
  EmitAddress(step, Reg::kR11);
  if (AddsSegment(instruction)) AddSegmentBase(instruction.segment, Reg::kR11, Reg::kRcx);
  code_.Deposit(Reg::kR11, Reg::kR11, JIT_CONFINING_MASK);
  code_.Bytes({0x4d, 0x8b, 0x1b});  // mov r11, [r11]
}

}  // namespace dunebox::jit
