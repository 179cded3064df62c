#include "jit-fallback/emit/emitter.h"

#include <algorithm>

#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/destination.h"
#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {

// ---- bookkeeping --------------------------------------------------------------------------------

void Emitter::Begin(const Block& block, std::uint64_t address) {
  block_ = &block;
  code_.Reset(address);
  exits_.clear();
  recovery_.clear();
  addresses_.clear();
  lowest_address_ = highest_address_ = 0;
  can_move_ = block.pc < kLow2GiB;
  rcx_ = r11_ = Spill{};
  scratch_in_slot_ = {};
  confinement_.Enter();
  confined_now_ = 0;
  drift_ = {};
  entry_ = 0;
}

void Emitter::NoteAddress(std::uint64_t address, bool is_negative) {
  constexpr std::uint32_t kMostOffset = (1U << 15) - 1;
  const std::uint32_t offset = code_.size() - std::uint32_t{sizeof(std::uint32_t)};
  can_move_ = can_move_ && address < kLow2GiB && offset <= kMostOffset;
  if (!can_move_) return;
  const auto distance = static_cast<std::int32_t>(address - block_->pc);
  lowest_address_ = std::min(lowest_address_, distance);
  highest_address_ = std::max(highest_address_, distance);
  addresses_.push_back({static_cast<std::uint16_t>(offset & kMostOffset), is_negative});
}

void Emitter::StoreRip(std::uint64_t rip) {
  code_.StoreSlotImmediate(JIT_RIP, rip);
  NoteAddress(rip);
}

std::uint8_t Emitter::in_slot() const {
  return static_cast<std::uint8_t>(
      (rcx_.in_register ? 0 : kRcxInSlot) | (r11_.in_register ? 0 : kR11InSlot) |
      (scratch_in_slot_[0] ? kScratch0InSlot : 0) | (scratch_in_slot_[1] ? kScratch1InSlot : 0) |
      (rsp_in_scratch_ ? kRspInScratch0 : 0) | (rsi_based_ ? kRsiBased : 0) |
      (rdi_based_ ? kRdiBased : 0));
}

std::uint16_t Emitter::confined() const {
  if (!masks() || !confinement_.IsConfined(kRsp)) return confined_now_;
  return confined_now_ | Bit(Reg::kRsp);
}

// Written field by field where it stays: whole, it would be read while its parts are on the way to memory, and there
// are thousands.
void Emitter::MarkAt(RecoveryKind kind, std::int32_t guest) {
  const auto host = static_cast<std::uint16_t>(code_.size());
  const std::uint16_t confined_then = confined();
  const std::uint8_t slots = in_slot();
  if (recovery_.empty()) {
    recovery_.emplace_back();
  } else if (const Recovery& last = recovery_.back(); last.host != host) {
    const auto advance = static_cast<std::int32_t>(host - last.host);
    const std::int32_t expected =
        last.kind == RecoveryKind::kLinear ? last.guest + advance : last.guest;
    if (last.kind == kind && last.in_slot == slots && expected == guest &&
        slots < kScratch0InSlot && confined_then == last.confined) {
      return;
    }
    recovery_.emplace_back();
  }
  Recovery& entry = recovery_.back();
  entry.guest = guest;
  entry.host = host;
  entry.confined = confined_then;
  entry.kind = kind;
  entry.in_slot = slots;
  entry.scratch = scratch_;
}

// Preconditions: the guest is at `guest`, and stays there.
void Emitter::Reload(Spill& spill, Reg reg, std::uint32_t slot, std::int32_t guest) {
  if (spill.in_register) return;
  MarkAt(RecoveryKind::kFixed, guest);
  code_.LoadSlot(reg, slot);
  spill.in_register = true;
}

void Emitter::ReloadAll(std::int32_t guest) {
  Reload(rcx_, Reg::kRcx, JIT_SLOT_RCX, guest);
  Reload(r11_, Reg::kR11, JIT_SLOT_R11, guest);
}

// Frees RCX and R11: their guest values are in their slots, the guest stays at `guest`.
void Emitter::SpillAll(std::int32_t guest) {
  MarkAt(RecoveryKind::kFixed, guest);
  if (!rcx_.in_slot) code_.StoreSlot(JIT_SLOT_RCX, Reg::kRcx);
  if (!r11_.in_slot) code_.StoreSlot(JIT_SLOT_R11, Reg::kR11);
  rcx_ = r11_ = {.in_register = false, .in_slot = true};
  MarkAt(RecoveryKind::kFixed, guest);
}

// Puts RCX and R11 where the instruction expects them.
void Emitter::PrepareRegisters(const Step& step) {
  const Instruction& instruction = step.instruction;
  const auto needed = static_cast<std::uint16_t>(instruction.registers & ~instruction.overwritten);
  if ((needed & Bit(Reg::kRcx)) != 0) Reload(rcx_, Reg::kRcx, JIT_SLOT_RCX, step.offset);
  if ((needed & Bit(Reg::kR11)) != 0) Reload(r11_, Reg::kR11, JIT_SLOT_R11, step.offset);
}

// After the instruction: what it may have written is in the register only.
void Emitter::SettleRegisters(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (MayWrite(instruction, Reg::kRcx)) rcx_ = {};
  if (MayWrite(instruction, Reg::kR11)) r11_ = {};
  if (!masks()) return;
  confinement_.After(instruction, BytesOf(step));
  if (SurelyAccesses(instruction, BytesOf(step))) confined_now_ = 0;
}

// ---- instructions -------------------------------------------------------------------------------

void Emitter::EmitRipLea(const Step& step, std::uint64_t target) {
  const Instruction& instruction = step.instruction;
  const Reg to = RegField(instruction);
  const bool wide = (instruction.rex & 8) != 0;
  MarkAt(RecoveryKind::kFixed, step.offset);
  if (instruction.operand_size && !wide) {
    code_.MoveImmediate16(to, static_cast<std::uint16_t>(target));
    can_move_ = false;
  } else {
    code_.MoveImmediate(to, wide ? target : target & 0xffff'ffff);
    NoteAddress(target);
  }
  SettleRegisters(step);
}

void Emitter::EmitCopy(const Step& step) {
  if (masks()) return EmitMasked(step);
  IsWindowed() ? EmitWindowed(step) : EmitPlain(step);
}

// The operand as it is, whatever it reaches.
void Emitter::EmitPlain(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (instruction.has_memory && instruction.segment == Segment::kGs &&
      instruction.operation != Operation::kLea) {
    EmitThroughScratch(step);
    return;
  }
  if (instruction.rip_relative) {
    std::uint64_t target = RipTarget(step);
    if (options_.map_target) target = options_.map_target(target);
    if (instruction.operation == Operation::kLea) {
      EmitRipLea(step, target);
      return;
    }
    if (target < kLow2GiB && instruction.length < kLongestInstruction) {
      MarkAt(RecoveryKind::kFixed, step.offset);
      EmitRipAbsolute(step, target);
      SettleRegisters(step);
    } else {
      EmitThroughScratch(step);
    }
    return;
  }
  MarkAt(RecoveryKind::kLinear, step.offset);
  code_.Copy(block_->bytes.subspan(step.offset, instruction.length));
  SettleRegisters(step);
}

// How many in a row are instructions of which nothing but their bytes has to be known: their operands are where the
// guest has them, and they change nothing that the emitter keeps count of.
std::size_t Emitter::CountCopied(std::size_t first, std::size_t end) const {
  if (masks()) return 0;
  const bool is_windowed = IsWindowed();
  const auto is_at_rest = [](const Spill& spill) { return spill.in_register && !spill.in_slot; };
  unsigned counted = is_windowed ? Bit(Reg::kRsp) : 0;
  if (!is_at_rest(rcx_) || !is_at_rest(r11_)) counted |= Bit(Reg::kRcx) | Bit(Reg::kR11);
  const auto is_copied = [&](const Instruction& instruction) {
    const bool is_plain = instruction.klass == Class::kCopy && (instruction.registers & counted) == 0 &&
                          (instruction.operation == Operation::kOther || instruction.operation == Operation::kLea);
    if (!is_plain) return false;
    if (is_windowed) return !instruction.has_memory && instruction.segment == Segment::kNone;
    return !instruction.rip_relative && instruction.segment != Segment::kGs;
  };
  std::size_t last = first;
  while (last < end && is_copied(block_->steps[last].instruction)) ++last;
  return last - first;
}

void Emitter::EmitCopied(std::size_t first, std::size_t count) {
  const Step& last = block_->steps[first + count - 1];
  const unsigned start = block_->steps[first].offset;
  MarkAt(RecoveryKind::kLinear, static_cast<std::int32_t>(start));
  code_.Copy(block_->bytes.subspan(start, last.offset + last.instruction.length - start));
}

// RSP as a block's exits need it: the drift that a block is entered with does not add up over blocks.
void Emitter::SettleStack(std::int32_t guest) {
  if (masks()) SettleMaskedStack(guest);
  if (IsWindowed()) SettleWindowedStack(guest);
}

// Keeps the next patchable rel32, `bytes_before` bytes of opcode ahead of it, inside 16 bytes.
void Emitter::AlignPatch(std::uint32_t bytes_before) {
  // A segment prefix that means nothing here.
  while (((code_.here() + bytes_before) & 15) > 12) code_.Byte(0x2e);
}

void Emitter::EmitExit(std::uint64_t target) {
  AlignPatch(1);
  exits_.push_back({code_.Jump(code_.here()), target});
}

void Emitter::EmitBranch(const Step& step) {
  const Instruction& instruction = step.instruction;
  const std::uint64_t target = TargetOf(*block_, step);
  SettleStack(step.offset);
  MarkAt(RecoveryKind::kFixed, step.offset);
  if (instruction.operation == Operation::kJcc) {
    // 7x and 0f 8x have the condition in the same four bits.
    AlignPatch(2);
    code_.Bytes({0x0f, static_cast<std::uint8_t>(0x80 | (instruction.opcode & 15))});
    exits_.push_back({code_.size(), target});
    code_.Value(std::int32_t{0});
    return;
  }
  // loop and jrcxz reach only 127 bytes: over a short jump.
  if (instruction.address_size) code_.Byte(0x67);
  code_.Bytes({instruction.opcode, 2});
  SettleRegisters(step);
  MarkAt(RecoveryKind::kFixed, OffsetOf(block_->NextOf(step)));
  code_.Bytes({0xeb, 0});
  const std::uint32_t over = code_.size();
  MarkAt(RecoveryKind::kFixed, OffsetOf(target));
  EmitExit(target);
  code_.Patch8(over - 1, static_cast<std::uint8_t>(code_.size() - over));
}

void Emitter::EmitStep(const Step& step) {
  PrepareRegisters(step);
  if (step.instruction.klass == Class::kBranch) {
    EmitBranch(step);
  } else {
    EmitCopy(step);
  }
}

// ---- blocks -------------------------------------------------------------------------------------

void Emitter::Emit(const Block& block, EntryKind entry, std::uint64_t address) {
  Begin(block, address);
  if (entry == EntryKind::kIndirect) EmitIndirectEntry(block);
  if (block.is_self_checking) EmitSelfCheck(block);
  if (options_.counts_instructions) EmitCount(block);
  EmitBody(block);
}

void Emitter::EmitBody(const Block& block) {
  // Side exits lead to direct entries: RCX and R11 have to be back before the first. In front of
  // the instruction before it, so that a compare and its branch stay together.
  std::size_t reload_before = block.steps.size();
  for (std::size_t i = 0; i < block.steps.size(); ++i) {
    if (block.steps[i].instruction.klass == Class::kBranch) {
      reload_before = i == 0 ? 0 : i - 1;
      break;
    }
  }
  for (std::size_t i = 0; i < block.steps.size(); ++i) {
    const Step& step = block.steps[i];
    const Class klass = step.instruction.klass;
    if (i == reload_before) ReloadAll(step.offset);
    const std::size_t end = i < reload_before ? reload_before : block.steps.size();
    if (const std::size_t count = CountCopied(i, end); count != 0) {
      EmitCopied(i, count);
      i += count - 1;
      continue;
    }
    const std::uint32_t leave = klass == Class::kCopy ? LeaveInsteadOf(step.instruction) : 0;
    if (leave != 0) {
      EmitLeave(leave, block.PcOf(step), step.offset);
      return;
    }
    if (klass != Class::kCopy && klass != Class::kBranch) {
      EmitTerminal(&step);
      return;
    }
    if (options_.hidden_components != 0 && HasComponentMask(step.instruction)) {
      EmitComponentCheck(step);
    }
    EmitStep(step);
  }
  EmitTerminal(block.steps.empty() ? nullptr : &block.steps.back());
}

}  // namespace dunebox::jit
