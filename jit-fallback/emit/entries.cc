// The emitter's entries: how a block is entered from an indirect jump, how it looks whether the
// guest's bytes are still its own and whether it may run, and how an indirect jump looks for its target.
#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {

// R11 = guest address; RCX and R11 are in their slots.
void Emitter::EmitLookup() {
  MarkAt(RecoveryKind::kInR11, 0);
  if (block_->is_single) {
    code_.JumpThroughSlot(JIT_TO_EXIT_LOOKUP);
    return;
  }
  code_.Bytes({0x41, 0x0f, 0xb7, 0xcb});  // movzx ecx, r11w
  code_.JumpThroughTable(JIT_TABLE);
}

// The block's own check of R11 behind EmitLookup of another. The flags may be live: in this block,
// or in the one that is really meant.
void Emitter::EmitIndirectEntry(const Block& block) {
  rcx_ = r11_ = {.in_register = false, .in_slot = true};
  MarkAt(RecoveryKind::kInR11, 0);
  const bool low = block.pc < kLow2GiB;
  // JRCXZ needs a difference of 0; LOOP, which goes on at 0 after counting down, one of 1.
  const std::uint64_t difference = ~block.pc + (options_.check_by_loop ? 2 : 1);
  if (options_.check_by_loop) {
    EmitMiss();
    entry_ = code_.size();
    MarkAt(RecoveryKind::kInR11, 0);
  }
  if (low) {
    code_.Bytes({0x49, 0x8d, 0x8b});  // lea rcx, [r11 + difference]
    code_.Value(static_cast<std::uint32_t>(difference));
    NoteAddress(block.pc, /*is_negative=*/true);
  } else {
    can_move_ = false;
    code_.MoveImmediate(Reg::kRcx, difference);
    code_.Bytes({0x4a, 0x8d, 0x0c, 0x19});  // lea rcx, [rcx + r11]
  }
  if (options_.check_by_loop) {
    code_.Bytes({0xe2, static_cast<std::uint8_t>(0 - (code_.size() + 2))});
  } else {
    code_.Bytes({0xe3, 0x08});
    EmitMiss();
  }
}

void Emitter::EmitMiss() { code_.JumpThroughSlot(JIT_TO_LOOKUP); }

// Compares the guest's bytes with those the block is made from, four, two or one at a time, without
// touching flags. RCX is spent, R11 holds the address.
void Emitter::EmitSelfCheck(const Block& block) {
  can_move_ = false;
  EmitCountDown(block, 1, JIT_CHECKS_LEFT, JIT_CHECKS_SIGN, JIT_TO_STALE);
  code_.MoveImmediate(Reg::kR11, block.pc);
  for (std::uint32_t at = 0; at < block.length;) {
    // The guest may have alignment checks on.
    std::uint32_t size = 4;
    while (at + size > block.length || (block.pc + at) % size != 0) size /= 2;
    std::uint32_t expected = 0;
    std::memcpy(&expected, block.bytes.data() + at, size);
    if (IsWindowed()) EmitWindowPrefixes();
    if (size == 4) {
      code_.Bytes({0x41, 0x8b, 0x8b});  // mov ecx, [r11 + at]
    } else {
      const std::uint8_t opcode = size == 2 ? 0xb7 : 0xb6;
      code_.Bytes({0x41, 0x0f, opcode, 0x8b});  // movzx ecx, word or byte [r11 + at]
    }
    code_.Value(at);
    code_.Bytes({0x8d, 0x89});  // lea ecx, [rcx - expected]
    code_.Value(~expected + 1);
    code_.Bytes({0xe3, 0});  // jrcxz over the way out
    const std::uint32_t over = code_.size();
    EmitLeaveAtEntry(block.pc, JIT_TO_STALE);
    code_.Patch8(over - 1, static_cast<std::uint8_t>(code_.size() - over));
    at += size;
  }
}

void Emitter::EmitLeaveAtEntry(std::uint64_t pc, std::uint32_t pointer) {
  code_.LoadSlot(Reg::kRcx, JIT_SLOT_RCX);
  code_.LoadSlot(Reg::kR11, JIT_SLOT_R11);
  StoreRip(pc);
  code_.JumpThroughSlot(pointer);
}

void Emitter::EmitCount(const Block& block) {
  EmitCountDown(block, static_cast<std::uint32_t>(block.steps.size()), JIT_INSTRUCTIONS_LEFT,
                JIT_INSTRUCTIONS_SIGN, JIT_TO_BUDGET);
}

// Without touching flags: the sign is looked at as a byte.
void Emitter::EmitCountDown(const Block& block, std::uint32_t number, std::uint32_t counter,
                            std::uint32_t sign, std::uint32_t pointer) {
  SpillAll(0);
  code_.LoadSlot(Reg::kRcx, counter);
  code_.Bytes({0x48, 0x8d, 0x89});  // lea rcx, [rcx - number]
  code_.Value(~number + 1);
  code_.StoreSlot(counter, Reg::kRcx);
  code_.LoadSlotByte(Reg::kRcx, sign);
  code_.Bytes({0xe3, 0});  // jrcxz over the way out
  const std::uint32_t over = code_.size();
  EmitLeaveAtEntry(block.pc, pointer);
  code_.Patch8(over - 1, static_cast<std::uint8_t>(code_.size() - over));
}

void Emitter::EmitIndirectStub(const Block& block, std::uint64_t address) {
  Begin(block, address);
  EmitIndirectEntry(block);
  ReloadAll(0);
  MarkAt(RecoveryKind::kFixed, 0);
  EmitExit(block.pc);
}

}  // namespace dunebox::jit
