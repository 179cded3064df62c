// The emitter's block ends.
#include <variant>

#include "hostcalls/check.h"
#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

void Emitter::EmitLeave(std::uint32_t pointer, std::uint64_t rip, std::int32_t guest) {
  ReloadAll(guest);
  SettleStack(guest);
  MarkAt(RecoveryKind::kFixed, guest);
  StoreRip(rip);
  code_.JumpThroughSlot(pointer);
}

void Emitter::EmitPushReturn(std::uint64_t return_address, std::uint64_t target) {
  const std::int32_t here = block_->steps.back().offset;
  SettleStackForAccess(here);
  if (return_address < kLow2GiB) {
    MarkAt(RecoveryKind::kFixed, here);
    code_.Byte(0x68);  // push imm32
    code_.Value(static_cast<std::uint32_t>(return_address));
    NoteAddress(return_address);
    MarkAt(RecoveryKind::kFixed, OffsetOf(target));
    return;
  }
  MarkAt(RecoveryKind::kFixed, here);
  if (!r11_.in_slot) code_.StoreSlot(JIT_SLOT_R11, Reg::kR11);
  r11_ = {.in_register = false, .in_slot = true};
  MarkAt(RecoveryKind::kFixed, here);
  can_move_ = false;
  code_.MoveImmediate(Reg::kR11, return_address);
  code_.Push(Reg::kR11);
  Reload(r11_, Reg::kR11, JIT_SLOT_R11, OffsetOf(target));
  MarkAt(RecoveryKind::kFixed, OffsetOf(target));
}

// mov r11, [operand] or mov r11, reg.
void Emitter::EmitLoadTarget(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (masks() && !IsConfinedOperand(step)) {
    EmitMaskedTarget(step);
    return;
  }
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  const bool absolute = instruction.rip_relative;
  const std::uint64_t target = absolute ? RipTarget(step) : 0;
  const bool is_windowed = IsWindowed() && instruction.has_memory;
  if (IsWindowed() && !instruction.has_memory && (instruction.registers & Bit(Reg::kRsp)) != 0 &&
      (instruction.modrm & 7) == kRsp && (instruction.rex & 1) == 0) {
    code_.Bytes({0x44, 0x8b, 0xdc});  // mov r11d, esp
    return;
  }
  if (AddsSegment(instruction) && !masks() && instruction.has_memory) {
    // r11 = address; rcx = the segment's base; r11 = [r11 + rcx]. Both are in their slots, and an
    // operand that names them has been reloaded into them.
    if (absolute) {
      code_.MoveImmediate(Reg::kR11, target);
      NoteAddress(target);
    } else {
      if (instruction.address_size) code_.Byte(0x67);
      code_.Bytes({static_cast<std::uint8_t>(0x4c | (instruction.rex & 3)), 0x8d,
                   static_cast<std::uint8_t>((instruction.modrm & 0xc7) | (3 << 3))});
      code_.Copy(bytes.subspan(instruction.modrm_offset + 1U));
    }
    LoadSegmentBase(Reg::kRcx, instruction.segment);
    if (is_windowed) EmitWindowPrefixes();
    code_.Bytes({0x4d, 0x8b, 0x1c, 0x0b});  // mov r11, [r11 + rcx]
    return;
  }
  if (absolute && target >= kLow2GiB && !is_windowed) {
    code_.MoveImmediate(Reg::kR11, target);
    can_move_ = false;
    if (instruction.segment == Segment::kFs) code_.Byte(kSegmentFsPrefix);
    code_.Bytes({0x4d, 0x8b, 0x1b});  // mov r11, [r11]
    return;
  }
  if (is_windowed) {
    EmitWindowPrefixes();
  } else {
    if (instruction.segment == Segment::kFs) code_.Byte(kSegmentFsPrefix);
    if (instruction.address_size) code_.Byte(kAddressSizePrefix);
  }
  code_.Bytes({static_cast<std::uint8_t>(0x4c | (instruction.rex & 3)), 0x8b});
  if (absolute) {
    code_.Patch8(code_.size() - 2, 0x4c);
    code_.Bytes({(3 << 3) | 4, 0x25});
    code_.Value(static_cast<std::uint32_t>(target));
    NoteAddress(target);
    return;
  }
  code_.Byte(static_cast<std::uint8_t>((instruction.modrm & 0xc7) | (3 << 3)));
  code_.Copy(bytes.subspan(instruction.modrm_offset + 1U));
}

void Emitter::EmitIndirect(const Step& step, bool is_call, std::uint64_t return_address) {
  PrepareRegisters(step);  // registers the operand names
  const std::int32_t here = step.offset;
  is_call ? SettleStackForAccess(here) : SettleStack(here);
  SpillAll(here);
  EmitLoadTarget(step);
  if (is_call) {
    if (return_address < kLow2GiB) {
      code_.Byte(0x68);
      code_.Value(static_cast<std::uint32_t>(return_address));
      NoteAddress(return_address);
    } else {
      can_move_ = false;
      code_.MoveImmediate(Reg::kRcx, return_address);
      code_.Push(Reg::kRcx);
    }
  }
  EmitLookup();
}

void Emitter::EmitReturn(std::uint16_t extra) {
  const std::int32_t here = block_->steps.back().offset;
  SettleStackForAccess(here);
  SpillAll(here);
  if (extra == 0) {
    code_.Pop(Reg::kR11);
  } else {
    code_.Bytes({0x4c, 0x8b, 0x1c, 0x24});  // mov r11, [rsp]
    code_.Bytes({0x48, 0x8d, 0xa4, 0x24});  // lea rsp, [rsp + 8 + extra]
    code_.Value(std::uint32_t{8} + extra);
  }
  EmitLookup();
}

void Emitter::EmitSystemCall(std::uint64_t next) {
  const std::int32_t here = block_->steps.back().offset;
  const std::int64_t number = KnownSystemCall(*block_);
  if (number < 0 || block_->is_single || !options_.runs_in_place ||
      !options_.runs_in_place(number)) {
    // RCX and R11 need no reload: the system call replaces them. But the exit stores them.
    EmitLeave(JIT_TO_SYSCALL, next, here);
    return;
  }
  SettleStack(here);
  MarkAt(RecoveryKind::kFixed, here);
  code_.MoveImmediate(Reg::kRax, static_cast<std::uint64_t>(number));
  code_.Bytes({0x0f, 0x05});
  rcx_ = r11_ = {};  // the kernel has put the flags into R11
  MarkAt(RecoveryKind::kAfterSystemCall, OffsetOf(next));
  code_.MoveImmediate(Reg::kRcx, next);
  can_move_ = false;  // where another policy is in force it may not run so
  MarkAt(RecoveryKind::kFixed, OffsetOf(next));
  EmitExit(next);
}

void Emitter::EmitTerminal(const Step* last) {
  std::visit(
      Overloaded{
          [&](const JumpTo& jump) {
            const bool own = last != nullptr && last->instruction.klass == Class::kJump;
            const std::int32_t here =
                own ? last->offset : static_cast<std::int32_t>(block_->length);
            ReloadAll(here);
            SettleStack(here);
            MarkAt(RecoveryKind::kFixed, here);
            EmitExit(jump.target);
          },
          [&](const CallTo& call) {
            ReloadAll(last->offset);
            EmitPushReturn(call.return_address, call.target);
            EmitExit(call.target);
          },
          [&](const JumpThrough&) { EmitIndirect(*last, false, 0); },
          [&](const CallThrough& call) { EmitIndirect(*last, true, call.return_address); },
          [&](const ReturnFrom& from) { EmitReturn(from.extra); },
          [&](const MakeSystemCall& call) { EmitSystemCall(call.next); },
          [&](const EmulateOne&) { EmitLeave(JIT_TO_EMULATE, block_->PcOf(*last), last->offset); },
          [&](const RaiseTrap&) { EmitLeave(JIT_TO_TRAP, block_->PcOf(*last), last->offset); },
          [](const FetchFault&) { DUNEBOX_CHECK(false, "a block without instructions"); },
      },
      block_->terminal);
}

}  // namespace dunebox::jit
