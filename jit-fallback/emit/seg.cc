// The emitter under isolation `seg`: memory operands. GS is the window's base, the address-size
// prefix cuts the rest of an address to 32 bits, so that operands need no register and no flag.
//
// What differs by instruction is where the operand is and whether the two prefixes reach it:
// string operations take RDI from ES, which has no base, so their registers are made addresses of
// the host's for the time of the instruction.
#include <array>
#include <cstring>
#include <span>

#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/destination.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/encoding.h"
#include "jit-fallback/emit/seg_stack.h"

namespace dunebox::jit {
namespace {

// Prefixes that the two of a window replace. A REX byte in front of another prefix means nothing,
// until it is the last one left.
bool IsReplacedInWindow(std::uint8_t prefix) {
  return IsSegmentPrefix(prefix) || prefix == kAddressSizePrefix || (prefix & 0xf0) == 0x40;
}

// DS:[RAX], DS:[RBX + AL], DS:[RDI]: both prefixes reach them.
bool IsPrefixedImplicit(Operation operation) {
  return operation == Operation::kXlat || operation == Operation::kMaskMove ||
         operation == Operation::kClzero;
}

bool IsPrefetch(const Instruction& instruction) {
  return instruction.encoding == Encoding::kLegacy && instruction.opcode_map == 1 &&
         (instruction.opcode == 0x18 || instruction.opcode == 0x0d);
}

// LEA and NOP: the operand is no access, whatever it says.
bool IsAccessed(const Instruction& instruction) {
  return instruction.has_memory && (instruction.access != Access::kNone || IsPrefetch(instruction));
}

// Gets the two prefixes.
bool IsPrefixed(const Instruction& instruction) {
  return (IsAccessed(instruction) && !IsThroughStack(instruction)) ||
         IsPrefixedImplicit(instruction.operation);
}

// [disp32], without a register.
bool IsAbsolute(const Instruction& instruction) {
  if (instruction.rip_relative || instruction.modrm_offset == 0) return true;
  const bool has_index = (instruction.sib & 0x38) != 0x20 || (instruction.rex & 2) != 0;
  return instruction.modrm >> 6 == 0 && (instruction.modrm & 7) == 4 &&
         (instruction.sib & 7) == 5 && !has_index;
}

// With the two prefixes in front, if it gets them. A RIP-relative operand gets a SIB byte besides.
unsigned LengthInWindow(std::span<const std::uint8_t> bytes, const Instruction& instruction) {
  const bool is_prefixed = IsPrefixed(instruction);
  unsigned length = instruction.length;
  if (instruction.rip_relative && (is_prefixed || instruction.operation == Operation::kLea)) {
    ++length;
  }
  if (!is_prefixed) return length;
  length += 2;
  for (const std::uint8_t prefix : bytes.first(instruction.prefix_length)) {
    if (IsReplacedInWindow(prefix)) --length;
  }
  return length;
}

bool IsStringOperation(Operation operation) {
  return operation == Operation::kStringNoRep || operation == Operation::kStringRep;
}

}  // namespace

void Emitter::EmitWindowPrefixes() { code_.Bytes({kSegmentGsPrefix, kAddressSizePrefix}); }

// The guest's FS base is not in the segment register.
bool Emitter::IsRefusedInWindow(const Instruction& instruction) const {
  switch (instruction.operation) {
    case Operation::kMovdir64b:  // neither prefix does what it should to the destination
    case Operation::kEnqcmd:
    case Operation::kMonitor:
    case Operation::kTileMemory:
      return true;
    case Operation::kStringNoRep:
    case Operation::kStringRep:
      return instruction.address_size;
    case Operation::kEnter:
    case Operation::kLeave:
      return instruction.operand_size;
    default:
      break;
  }
  const bool names_stack_in_vvvv = (StackFields(instruction) & Instruction::kVvvv) != 0;
  return names_stack_in_vvvv && AddsSegment(instruction);
}

// The instruction with the two prefixes, or as it is where its operand is one through RSP; `fields`
// name `substitute` in place of RSP.
void Emitter::EmitWindowedOperand(const Step& step, std::uint8_t fields, Reg substitute) {
  const Instruction& instruction = step.instruction;
  const auto bytes = BytesOf(step);
  const bool is_prefixed = IsPrefixed(instruction);
  if (is_prefixed) EmitWindowPrefixes();
  for (const std::uint8_t prefix : bytes.first(instruction.prefix_length)) {
    if (!is_prefixed || !IsReplacedInWindow(prefix)) code_.Byte(prefix);
  }
  // Where the bytes from the first that is not a prefix on come to lie.
  const std::uint32_t start = code_.size() - instruction.prefix_length;
  if (instruction.modrm_offset == 0 && instruction.has_memory) {  // moffs: now of 32 bits
    code_.Copy(bytes.subspan(instruction.prefix_length,
                             instruction.displacement_offset - instruction.prefix_length));
    code_.Copy(bytes.subspan(instruction.displacement_offset, 4));
  } else if (instruction.rip_relative &&
             (is_prefixed || instruction.operation == Operation::kLea)) {
    code_.Copy(bytes.subspan(instruction.prefix_length,
                             instruction.modrm_offset - instruction.prefix_length));
    code_.Bytes({static_cast<std::uint8_t>((instruction.modrm & 0x38) | 4), 0x25});
    const std::uint64_t target = RipTarget(step);
    code_.Value(static_cast<std::uint32_t>(target));
    NoteAddress(target);
    code_.Copy(bytes.subspan(instruction.modrm_offset + 5U));
    ClearIndex(instruction.encoding, instruction.rex, start + instruction.prefix_length);
  } else {
    code_.Copy(bytes.subspan(instruction.prefix_length));
  }
  if (fields == 0) return;
  const auto replace = [&](std::uint32_t at, unsigned shift, std::uint8_t value) {
    const unsigned kept = code_.code()[at] & ~(7U << shift);
    code_.Patch8(at, static_cast<std::uint8_t>(kept | unsigned{value} << shift));
  };
  const std::uint32_t modrm = start + instruction.modrm_offset;
  if ((fields & Instruction::kReg) != 0) replace(modrm, 3, Low(substitute));
  if ((fields & Instruction::kRm) != 0) {
    replace(instruction.modrm_offset != 0 ? modrm : start + instruction.opcode_offset, 0,
            Low(substitute));
  }
  if ((fields & kStackBase) != 0) replace(modrm + 1, 0, Low(substitute));
  if ((fields & Instruction::kVvvv) != 0) {  // inverted; both numbers are below 8
    const unsigned at = instruction.encoding == Encoding::kVex2 ? 1 : 2;
    replace(start + instruction.prefix_length + at, 3,
            static_cast<std::uint8_t>(~Low(substitute) & 7));
  }
}

// A segment base of the guest's plus a constant.
void Emitter::EmitSegmentAbsolute(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (!BeginScratch(step)) return;
  const auto base = static_cast<Reg>(scratch_[0]);
  LoadSegmentBase(base, instruction.segment);
  auto displacement = static_cast<std::uint32_t>(instruction.displacement);
  if (instruction.rip_relative) {
    displacement = static_cast<std::uint32_t>(RipTarget(step));
    can_move_ = false;
  }
  if (instruction.modrm_offset == 0) {
    std::memcpy(&displacement, block_->bytes.data() + step.offset + instruction.displacement_offset,
                4);
  }
  EmitWithBase(step, base, displacement);
  SettleRegisters(step);
  const std::int32_t next = step.offset + instruction.length;
  MarkAt(RecoveryKind::kFixed, next);
  ReleaseScratch(0, next);
}

// RSI and RDI become addresses of the host's and offsets again. A repeated operation that runs out
// of the window ends in the guard behind it.
void Emitter::EmitString(const Step& step) {
  const Instruction& instruction = step.instruction;
  const std::int32_t here = step.offset;
  const std::int32_t next = here + instruction.length;
  if (!BeginScratch(step)) return;
  const auto base = static_cast<Reg>(scratch_[0]);
  const auto add_base = [&](std::uint8_t reg) {  // lea reg, [reg + base]
    code_.Bytes({0x48, 0x8d, static_cast<std::uint8_t>((reg << 3) | 4),
                 static_cast<std::uint8_t>((Low(base) << 3) | reg)});
  };
  struct Pointer {
    std::uint8_t reg;
    bool& is_based;
  };
  const Pointer pointers[] = {{kRsi, rsi_based_}, {kRdi, rdi_based_}};
  const auto is_used = [&](const Pointer& pointer) {
    return (instruction.registers >> pointer.reg & 1) != 0;
  };
  code_.LoadSlot(base, JIT_WINDOW_BASE);
  for (const Pointer& pointer : pointers) {
    if (!is_used(pointer)) continue;
    code_.Bytes({0x89, static_cast<std::uint8_t>(0xc0 | pointer.reg << 3 | pointer.reg)});
    add_base(pointer.reg);
    pointer.is_based = true;
    MarkAt(RecoveryKind::kFixed, here);
  }
  code_.Copy(BytesOf(step));
  SettleRegisters(step);
  MarkAt(RecoveryKind::kFixed, next);
  code_.LoadSlot(base, JIT_MINUS_WINDOW_BASE);
  for (const Pointer& pointer : pointers) {
    if (!is_used(pointer)) continue;
    add_base(pointer.reg);
    pointer.is_based = false;
    MarkAt(RecoveryKind::kFixed, next);
  }
  ReleaseScratch(0, next);
}

void Emitter::EmitWindowed(const Step& step) {
  const Instruction& instruction = step.instruction;
  const Operation operation = instruction.operation;
  if (IsStringOperation(operation)) return EmitString(step);
  if (operation == Operation::kEnter) return EmitEnter(step);
  if (operation == Operation::kLeave) return EmitLeaveFrame(step);
  const auto bytes = BytesOf(step);
  const bool is_too_long = LengthInWindow(bytes, instruction) > kLongestInstruction;
  // Without its displacement it is short enough.
  if (is_too_long && (instruction.displacement_size < 4 || StackFields(instruction) != 0)) {
    EmitLeave(JIT_TO_TRAP, block_->PcOf(step), step.offset);
    return;
  }
  if ((instruction.registers & Bit(Reg::kRsp)) != 0) {
    const bool is_lea_from_stack =
        operation == Operation::kLea && instruction.has_memory && HasStackBase(instruction);
    if (StackFields(instruction) != 0 || is_lea_from_stack) return EmitStackOperand(step);
  }
  if (instruction.rip_relative && operation == Operation::kLea) {
    return EmitRipLea(step, RipTarget(step));
  }
  if (AddsSegment(instruction) && IsAccessed(instruction)) {
    const bool keeps_displacement = IsAbsolute(instruction) && !is_too_long;
    keeps_displacement ? EmitSegmentAbsolute(step) : EmitThroughScratch(step);
  } else if (is_too_long) {
    EmitThroughScratch(step);
  } else if (!instruction.has_memory && !IsPrefixedImplicit(operation)) {
    MarkAt(RecoveryKind::kLinear, step.offset);
    code_.Copy(bytes);
    SettleRegisters(step);
  } else {
    MarkAt(RecoveryKind::kFixed, step.offset);
    EmitWindowedOperand(step, 0, Reg::kRsp);
    SettleRegisters(step);
  }
  FollowStack(step);
  if (NamesStackByte(instruction) && MayWrite(instruction, Reg::kRsp)) {
    Rebase(step.offset + instruction.length);
  }
}

}  // namespace dunebox::jit
