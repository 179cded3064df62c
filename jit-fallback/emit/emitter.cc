#include "jit-fallback/emit/emitter.h"

#include <utility>

#include "hostcalls/check.h"
#include "jit-fallback/dispatch/context_offsets.h"

namespace dunebox::jit {
namespace {

constexpr std::uint16_t Bit(Reg reg) {
  return static_cast<std::uint16_t>(1U << static_cast<unsigned>(reg));
}
constexpr std::uint8_t Low(Reg reg) { return static_cast<std::uint8_t>(reg) & 7; }

// For addresses that need a register of their own. No REX bit to name them, no special case as a
// base.
constexpr Reg kScratchRegisters[] = {Reg::kRdx, Reg::kRsi, Reg::kRdi,
                                     Reg::kRax, Reg::kRbx, Reg::kRcx};
// The second is only added to the first.
constexpr Reg kSecondScratchRegisters[] = {Reg::kRbp, Reg::kR8, Reg::kR9, Reg::kR10};
constexpr std::array<std::uint32_t, 2> kScratchSlots = {JIT_SLOT_SCRATCH0, JIT_SLOT_SCRATCH1};

constexpr std::uint64_t kLow2GiB = std::uint64_t{1} << 31;

constexpr std::uint8_t kSegmentFsPrefix = 0x64, kSegmentGsPrefix = 0x65, kAddressSizePrefix = 0x67;

bool IsImplicitMemory(Operation operation) {
  switch (operation) {
    case Operation::kStringNoRep:
    case Operation::kStringRep:
    case Operation::kXlat:
    case Operation::kMaskMove:
    case Operation::kClzero:
    case Operation::kMonitor:
    case Operation::kMovdir64b:
    case Operation::kEnqcmd:
      return true;
    default:
      return false;
  }
}

// Which of its ModRM operands an instruction writes; kUnknown also where others are written.
enum class Destination : std::uint8_t { kNone, kReg, kRm, kUnknown };

Destination DestinationOf(const Instruction& instruction) {
  if (instruction.encoding != Encoding::kLegacy) return Destination::kUnknown;
  const unsigned opcode = instruction.opcode;
  // AH to BH are numbered like RSP to RDI.
  const bool is_byte = instruction.opcode_map == 0 && (opcode & 1) == 0 && opcode != 0x8d;
  if (is_byte && instruction.rex == 0) return Destination::kUnknown;
  const unsigned extension = (instruction.modrm >> 3) & 7U;
  if (instruction.opcode_map == 1) {
    const bool moves_to_reg = (opcode >= 0x40 && opcode <= 0x4f) || opcode == 0xaf ||
                              opcode == 0xb6 || opcode == 0xb7 || opcode == 0xbe || opcode == 0xbf;
    if (moves_to_reg) return Destination::kReg;  // cmovcc, imul, movzx, movsx
    // movups to movaps, comiss, arithmetic on xmm: no general register is written
    const bool vector = opcode == 0x10 || opcode == 0x11 || opcode == 0x28 || opcode == 0x29 ||
                        opcode == 0x2e || opcode == 0x2f || opcode == 0x54 || opcode == 0x57 ||
                        (opcode >= 0x58 && opcode <= 0x5f) || opcode == 0x6f || opcode == 0x7f ||
                        opcode == 0xef;
    return vector ? Destination::kNone : Destination::kUnknown;
  }
  if (instruction.opcode_map != 0) return Destination::kUnknown;
  if (opcode < 0x40 && (opcode & 7) < 4) {  // add to cmp
    if (opcode >= 0x38) return Destination::kNone;
    return (opcode & 2) != 0 ? Destination::kReg : Destination::kRm;
  }
  switch (opcode) {
    case 0x63:
    case 0x69:
    case 0x6b:
    case 0x8a:
    case 0x8b:
    case 0x8d:
      return Destination::kReg;  // movsxd, imul, mov, lea
    case 0x84:
    case 0x85:
      return Destination::kNone;  // test
    case 0x88:
    case 0x89:
    case 0xc6:
    case 0xc7:
      return Destination::kRm;  // mov
    case 0x80:
    case 0x81:
    case 0x83:
      return extension == 7 ? Destination::kNone : Destination::kRm;
    case 0xf6:
    case 0xf7:
      return extension < 2   ? Destination::kNone
             : extension < 4 ? Destination::kRm
                             : Destination::kUnknown;
    case 0xfe:
    case 0xff:
      return extension < 2 ? Destination::kRm : Destination::kUnknown;
    default:
      return Destination::kUnknown;
  }
}

// Conservative: false only where the register is surely as before.
bool MayWrite(const Instruction& instruction, Reg reg) {
  if ((instruction.registers & Bit(reg)) == 0) return false;
  const auto number = static_cast<unsigned>(reg);
  switch (DestinationOf(instruction)) {
    case Destination::kNone:
      return false;
    case Destination::kReg:
      return (((instruction.modrm >> 3) & 7U) | ((instruction.rex & 4) != 0 ? 8U : 0U)) == number;
    case Destination::kRm:
      return instruction.modrm >> 6 == 3 &&
             ((instruction.modrm & 7U) | ((instruction.rex & 1) != 0 ? 8U : 0U)) == number;
    case Destination::kUnknown:
      return true;
  }
  return true;
}

// GS belongs to the runtime; forms whose guest-GS address cannot be computed beforehand.
bool IsUnsupportedGs(const Instruction& instruction) {
  if (instruction.segment != Segment::kGs) return false;
  if (!instruction.has_memory) return IsImplicitMemory(instruction.operation);
  // Addresses of more parts than base and index, and displacements in units of the operand.
  if (instruction.operation == Operation::kGatherScatter ||
      instruction.operation == Operation::kTileMemory) {
    return true;
  }
  return instruction.encoding == Encoding::kEvex && instruction.displacement_size == 1;
}

// pop [rsp + ...]: the address is of the stack pointer behind the pop. [intel/vol2 POP]
bool IsPopThroughStack(const Instruction& instruction) {
  const bool has_rsp_base =
      (instruction.modrm & 7) == 4 && (instruction.sib & 7) == kRsp && (instruction.rex & 1) == 0;
  return instruction.encoding == Encoding::kLegacy && instruction.opcode_map == 0 &&
         instruction.opcode == 0x8f && has_rsp_base;
}

// A prefix that does not go with [base] in place of the operand. A REX byte in front of another
// prefix means nothing, until it is the last one left.
bool IsReplacedPrefix(const Instruction& instruction, std::uint8_t prefix) {
  const bool is_gs = instruction.segment == Segment::kGs;
  // Bit strings add to a 32-bit address after the base: it has to stay one, where GS is not in it.
  return prefix == kSegmentGsPrefix || (prefix & 0xf0) == 0x40 ||
         (is_gs && (prefix == kSegmentFsPrefix || prefix == kAddressSizePrefix));
}

}  // namespace

// ---- bookkeeping --------------------------------------------------------------------------------

void Emitter::Begin(const Block& block, std::uint64_t address) {
  block_ = &block;
  code_.Reset(address);
  exits_.clear();
  recovery_.clear();
  rcx_ = r11_ = Spill{};
  scratch_in_slot_ = {};
  entry_ = 0;
}

std::uint8_t Emitter::in_slot() const {
  return static_cast<std::uint8_t>(
      (rcx_.in_register ? 0 : kRcxInSlot) | (r11_.in_register ? 0 : kR11InSlot) |
      (scratch_in_slot_[0] ? kScratch0InSlot : 0) | (scratch_in_slot_[1] ? kScratch1InSlot : 0));
}

void Emitter::MarkAt(RecoveryKind kind, std::int32_t guest) {
  const Recovery entry{.host = code_.size(),
                       .guest = guest,
                       .kind = kind,
                       .in_slot = in_slot(),
                       .scratch = scratch_};
  if (!recovery_.empty()) {
    Recovery& last = recovery_.back();
    if (last.host == entry.host) {
      last = entry;
      return;
    }
    const auto advance = static_cast<std::int32_t>(entry.host - last.host);
    const std::int32_t expected =
        last.kind == RecoveryKind::kLinear ? last.guest + advance : last.guest;
    if (last.kind == kind && last.in_slot == entry.in_slot && expected == guest &&
        entry.in_slot < kScratch0InSlot) {
      return;
    }
  }
  recovery_.push_back(entry);
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

// Puts RCX and R11 where the instruction expects them.
void Emitter::PrepareRegisters(const Step& step) {
  const Instruction& instruction = step.instruction;
  const auto needed = static_cast<std::uint16_t>(instruction.registers & ~instruction.overwritten);
  if ((needed & Bit(Reg::kRcx)) != 0) Reload(rcx_, Reg::kRcx, JIT_SLOT_RCX, step.offset);
  if ((needed & Bit(Reg::kR11)) != 0) Reload(r11_, Reg::kR11, JIT_SLOT_R11, step.offset);
}

// After the instruction: what it may have written is in the register only.
void Emitter::SettleRegisters(const Instruction& instruction) {
  if (MayWrite(instruction, Reg::kRcx)) rcx_ = {};
  if (MayWrite(instruction, Reg::kR11)) r11_ = {};
}

bool Emitter::TakeScratch(const Instruction& instruction, unsigned count) {
  unsigned taken = 0;
  const auto take = [&](std::span<const Reg> registers) {
    for (const Reg reg : registers) {
      if (taken == count) return;
      if ((instruction.registers & Bit(reg)) != 0) continue;
      // Its slot is in use already: RCX must be what the recovery entry says it is.
      if (reg == Reg::kRcx && !rcx_.in_register) continue;
      scratch_[taken] = static_cast<std::uint8_t>(reg);
      code_.StoreSlot(kScratchSlots[taken], reg);
      ++taken;
    }
  };
  take(kScratchRegisters);
  if (taken == 1) take(kSecondScratchRegisters);
  return taken == count;
}

void Emitter::ReleaseScratch(unsigned index, std::int32_t guest) {
  code_.LoadSlot(static_cast<Reg>(scratch_[index]), kScratchSlots[index]);
  scratch_in_slot_[index] = false;
  MarkAt(RecoveryKind::kFixed, guest);
}

// ---- memory operands ----------------------------------------------------------------------------

// [rip + disp32] becomes [disp32]: one byte longer, no register.
void Emitter::EmitRipAbsolute(const Step& step, std::uint64_t target) {
  const Instruction& instruction = step.instruction;
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  const std::uint32_t start = code_.size();
  code_.Copy(bytes.first(instruction.modrm_offset));
  code_.Bytes({static_cast<std::uint8_t>((instruction.modrm & 0x38) | 4), 0x25});
  code_.Value(static_cast<std::uint32_t>(target));
  code_.Copy(bytes.subspan(instruction.modrm_offset + 5U));
  // An index register that a RIP-relative operand ignored would count now.
  const std::uint32_t at = start + instruction.prefix_length;
  const std::uint8_t first = bytes[instruction.prefix_length];
  switch (instruction.encoding) {
    case Encoding::kLegacy:
      if (instruction.rex != 0) code_.Patch8(at, static_cast<std::uint8_t>(first & ~2));
      break;
    case Encoding::kVex2:
      break;
    case Encoding::kVex3:
    case Encoding::kEvex:
      code_.Patch8(at + 1, static_cast<std::uint8_t>(bytes[instruction.prefix_length + 1U] | 0x40));
      break;
  }
}

// The instruction with [base] in place of its memory operand, without a GS prefix. `base` is one of
// the low eight registers, neither RSP nor RBP.
void Emitter::EmitWithBase(const Step& step, Reg base) {
  const Instruction& instruction = step.instruction;
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  for (const std::uint8_t prefix : bytes.first(instruction.prefix_length)) {
    if (!IsReplacedPrefix(instruction, prefix)) code_.Byte(prefix);
  }
  if (instruction.modrm_offset == 0) {  // moffs: mov al/ax/eax/rax to or from an absolute address
    if (instruction.rex != 0) code_.Byte(static_cast<std::uint8_t>(instruction.rex & ~7));
    constexpr std::uint8_t kModrmForms[] = {0x8a, 0x8b, 0x88, 0x89};
    code_.Bytes({kModrmForms[instruction.opcode & 3], Low(base)});
    return;
  }
  unsigned at = instruction.prefix_length;
  switch (instruction.encoding) {
    case Encoding::kLegacy:
      if (instruction.rex != 0) code_.Byte(static_cast<std::uint8_t>(bytes[at++] & ~3));
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
  code_.Byte(static_cast<std::uint8_t>((instruction.modrm & 0x38) | Low(base)));
  if (instruction.immediate_size != 0) {
    code_.Copy(bytes.subspan(instruction.immediate_offset));
  }
}

// lea to, [the instruction's operand], without any segment.
void Emitter::EmitAddress(const Step& step, Reg to) {
  const Instruction& instruction = step.instruction;
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  if (instruction.rip_relative) {
    std::uint64_t target =
        block_->NextOf(step) + static_cast<std::uint64_t>(std::int64_t{instruction.displacement});
    if (instruction.address_size) target &= 0xffff'ffff;
    if (options_.map_target && instruction.segment != Segment::kGs) {
      target = options_.map_target(target);
    }
    code_.MoveImmediate(to, target);
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
  code_.Bytes({static_cast<std::uint8_t>(0x48 | (instruction.rex & 3)), 0x8d,
               static_cast<std::uint8_t>((instruction.modrm & 0xc7) | (Low(to) << 3))});
  // SIB and displacement as they are.
  const unsigned from = instruction.modrm_offset + 1U;
  const unsigned end = instruction.displacement_size != 0
                           ? instruction.displacement_offset + instruction.displacement_size
                       : (instruction.modrm & 7) == 4 ? from + 1
                                                      : from;
  code_.Copy(bytes.subspan(from, end - from));
}

void Emitter::EmitThroughScratch(const Step& step) {
  const Instruction& instruction = step.instruction;
  const bool is_gs = instruction.segment == Segment::kGs;
  const std::int32_t here = step.offset;
  const std::int32_t next = here + instruction.length;
  MarkAt(RecoveryKind::kFixed, here);
  if (!TakeScratch(instruction, is_gs ? 2 : 1)) {
    EmitLeave(JIT_TO_TRAP, block_->PcOf(step), here);
    return;
  }
  scratch_in_slot_ = {true, is_gs};
  MarkAt(RecoveryKind::kFixed, here);
  const auto base = static_cast<Reg>(scratch_[0]);
  EmitAddress(step, base);
  if (IsPopThroughStack(instruction)) {
    const std::uint8_t popped = instruction.operand_size ? 2 : 8;
    code_.Bytes({0x48, 0x8d, static_cast<std::uint8_t>(0x40 | (Low(base) << 3) | Low(base)),
                 popped});  // lea base, [base + popped]
  }
  if (is_gs) {
    const auto segment_base = static_cast<Reg>(scratch_[1]);
    code_.LoadSlot(segment_base, JIT_GS_BASE);
    code_.Bytes({static_cast<std::uint8_t>(segment_base < Reg::kR8 ? 0x48 : 0x4a), 0x8d,
                 static_cast<std::uint8_t>((Low(base) << 3) | 4),
                 static_cast<std::uint8_t>((Low(segment_base) << 3) | Low(base))});
    ReleaseScratch(1, here);
  }
  EmitWithBase(step, base);
  SettleRegisters(instruction);
  MarkAt(RecoveryKind::kFixed, next);
  ReleaseScratch(0, next);
}

// ---- instructions -------------------------------------------------------------------------------

void Emitter::EmitCopy(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (instruction.has_memory && instruction.segment == Segment::kGs &&
      instruction.operation != Operation::kLea) {
    EmitThroughScratch(step);
    return;
  }
  if (instruction.rip_relative) {
    std::uint64_t target =
        block_->NextOf(step) + static_cast<std::uint64_t>(std::int64_t{instruction.displacement});
    if (instruction.address_size) target &= 0xffff'ffff;
    if (options_.map_target) target = options_.map_target(target);
    if (instruction.operation == Operation::kLea && !instruction.operand_size) {
      const bool wide = (instruction.rex & 8) != 0;
      const auto reg =
          static_cast<Reg>(((instruction.modrm >> 3) & 7) | ((instruction.rex & 4) != 0 ? 8 : 0));
      MarkAt(RecoveryKind::kFixed, step.offset);
      code_.MoveImmediate(reg, wide ? target : target & 0xffff'ffff);
      SettleRegisters(instruction);
      return;
    }
    if (target < kLow2GiB && instruction.length < 15) {
      MarkAt(RecoveryKind::kFixed, step.offset);
      EmitRipAbsolute(step, target);
      SettleRegisters(instruction);
    } else {
      EmitThroughScratch(step);
    }
    return;
  }
  MarkAt(RecoveryKind::kLinear, step.offset);
  code_.Copy(block_->bytes.subspan(step.offset, instruction.length));
  SettleRegisters(instruction);
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
  SettleRegisters(instruction);
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

// ---- terminals ----------------------------------------------------------------------------------

void Emitter::EmitLeave(std::uint32_t pointer, std::uint64_t rip, std::int32_t guest) {
  ReloadAll(guest);
  MarkAt(RecoveryKind::kFixed, guest);
  code_.StoreSlotImmediate(JIT_RIP, rip);
  code_.Bytes({0x65, 0xff, 0x24, 0x25});  // jmp gs:[pointer]
  code_.Value(pointer);
}

// R11 = guest address; RCX and R11 are in their slots.
void Emitter::EmitLookup() {
  MarkAt(RecoveryKind::kInR11, 0);
  code_.Bytes({0x41, 0x0f, 0xb7, 0xcb});  // movzx ecx, r11w
  code_.Bytes({0x65, 0xff, 0x24, 0xcd});  // jmp gs:[rcx*8 + table]
  code_.Value(std::uint32_t{JIT_TABLE});
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
  } else {
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

void Emitter::EmitMiss() {
  code_.Bytes({0x65, 0xff, 0x24, 0x25});  // jmp gs:[lookup]
  code_.Value(std::uint32_t{JIT_TO_LOOKUP});
}

// Compares the guest's bytes with those the block is made from, four or one at a time, without
// touching flags. RCX is spent, R11 holds the address.
void Emitter::EmitSelfCheck(const Block& block) {
  MarkAt(RecoveryKind::kFixed, 0);
  if (!rcx_.in_slot) code_.StoreSlot(JIT_SLOT_RCX, Reg::kRcx);
  if (!r11_.in_slot) code_.StoreSlot(JIT_SLOT_R11, Reg::kR11);
  rcx_ = r11_ = {.in_register = false, .in_slot = true};
  MarkAt(RecoveryKind::kFixed, 0);
  code_.MoveImmediate(Reg::kR11, block.pc);
  for (std::uint32_t at = 0; at < block.length;) {
    // The guest may have alignment checks on.
    const bool four = at + 4 <= block.length && (block.pc + at) % 4 == 0;
    std::uint32_t expected = 0;
    std::memcpy(&expected, block.bytes.data() + at, four ? 4 : 1);
    if (four) {
      code_.Bytes({0x41, 0x8b, 0x8b});  // mov ecx, [r11 + at]
    } else {
      code_.Bytes({0x41, 0x0f, 0xb6, 0x8b});  // movzx ecx, byte [r11 + at]
    }
    code_.Value(at);
    code_.Bytes({0x8d, 0x89});  // lea ecx, [rcx - expected]
    code_.Value(~expected + 1);
    code_.Bytes({0xe3, 0});  // jrcxz over the way out
    const std::uint32_t over = code_.size();
    EmitStale(block.pc);
    code_.Patch8(over - 1, static_cast<std::uint8_t>(code_.size() - over));
    at += four ? 4 : 1;
  }
}

void Emitter::EmitStale(std::uint64_t pc) {
  code_.LoadSlot(Reg::kRcx, JIT_SLOT_RCX);
  code_.LoadSlot(Reg::kR11, JIT_SLOT_R11);
  code_.StoreSlotImmediate(JIT_RIP, pc);
  code_.Bytes({0x65, 0xff, 0x24, 0x25});  // jmp gs:[stale]
  code_.Value(std::uint32_t{JIT_TO_STALE});
}

void Emitter::EmitPushReturn(std::uint64_t return_address, std::uint64_t target) {
  const std::int32_t here = block_->steps.back().offset;
  if (return_address < kLow2GiB) {
    MarkAt(RecoveryKind::kFixed, here);
    code_.Byte(0x68);  // push imm32
    code_.Value(static_cast<std::uint32_t>(return_address));
    MarkAt(RecoveryKind::kFixed, OffsetOf(target));
    return;
  }
  MarkAt(RecoveryKind::kFixed, here);
  if (!r11_.in_slot) code_.StoreSlot(JIT_SLOT_R11, Reg::kR11);
  r11_ = {.in_register = false, .in_slot = true};
  MarkAt(RecoveryKind::kFixed, here);
  code_.MoveImmediate(Reg::kR11, return_address);
  code_.Push(Reg::kR11);
  Reload(r11_, Reg::kR11, JIT_SLOT_R11, OffsetOf(target));
  MarkAt(RecoveryKind::kFixed, OffsetOf(target));
}

// mov r11, [operand] or mov r11, reg.
void Emitter::EmitLoadTarget(const Step& step) {
  const Instruction& instruction = step.instruction;
  const auto bytes = block_->bytes.subspan(step.offset, instruction.length);
  std::uint64_t target = 0;
  const bool absolute = instruction.rip_relative;
  if (absolute) {
    target =
        block_->NextOf(step) + static_cast<std::uint64_t>(std::int64_t{instruction.displacement});
    if (instruction.address_size) target &= 0xffff'ffff;
  }
  if (instruction.segment == Segment::kGs && instruction.has_memory) {
    // r11 = address; rcx = guest GS; r11 = [r11 + rcx]. Both are in their slots, and an operand
    // that names them has been reloaded into them.
    if (absolute) {
      code_.MoveImmediate(Reg::kR11, target);
    } else {
      if (instruction.address_size) code_.Byte(0x67);
      code_.Bytes({static_cast<std::uint8_t>(0x4c | (instruction.rex & 3)), 0x8d,
                   static_cast<std::uint8_t>((instruction.modrm & 0xc7) | (3 << 3))});
      code_.Copy(bytes.subspan(instruction.modrm_offset + 1U));
    }
    code_.LoadSlot(Reg::kRcx, JIT_GS_BASE);
    code_.Bytes({0x4d, 0x8b, 0x1c, 0x0b});  // mov r11, [r11 + rcx]
    return;
  }
  if (absolute && target >= kLow2GiB) {
    code_.MoveImmediate(Reg::kR11, target);
    if (instruction.segment == Segment::kFs) code_.Byte(kSegmentFsPrefix);
    code_.Bytes({0x4d, 0x8b, 0x1b});  // mov r11, [r11]
    return;
  }
  if (instruction.segment == Segment::kFs) code_.Byte(kSegmentFsPrefix);
  if (instruction.address_size) code_.Byte(0x67);
  code_.Bytes({static_cast<std::uint8_t>(0x4c | (instruction.rex & 3)), 0x8b});
  if (absolute) {
    code_.Patch8(code_.size() - 2, 0x4c);
    code_.Bytes({(3 << 3) | 4, 0x25});
    code_.Value(static_cast<std::uint32_t>(target));
    return;
  }
  code_.Byte(static_cast<std::uint8_t>((instruction.modrm & 0xc7) | (3 << 3)));
  code_.Copy(bytes.subspan(instruction.modrm_offset + 1U));
}

void Emitter::EmitIndirect(const Step& step, bool is_call, std::uint64_t return_address) {
  PrepareRegisters(step);  // registers the operand names
  const std::int32_t here = step.offset;
  MarkAt(RecoveryKind::kFixed, here);
  if (!rcx_.in_slot) code_.StoreSlot(JIT_SLOT_RCX, Reg::kRcx);
  if (!r11_.in_slot) code_.StoreSlot(JIT_SLOT_R11, Reg::kR11);
  rcx_ = r11_ = {.in_register = false, .in_slot = true};
  MarkAt(RecoveryKind::kFixed, here);
  EmitLoadTarget(step);
  if (is_call) {
    if (return_address < kLow2GiB) {
      code_.Byte(0x68);
      code_.Value(static_cast<std::uint32_t>(return_address));
    } else {
      code_.MoveImmediate(Reg::kRcx, return_address);
      code_.Push(Reg::kRcx);
    }
  }
  EmitLookup();
}

void Emitter::EmitReturn(std::uint16_t extra) {
  const std::int32_t here = block_->steps.back().offset;
  MarkAt(RecoveryKind::kFixed, here);
  if (!rcx_.in_slot) code_.StoreSlot(JIT_SLOT_RCX, Reg::kRcx);
  if (!r11_.in_slot) code_.StoreSlot(JIT_SLOT_R11, Reg::kR11);
  rcx_ = r11_ = {.in_register = false, .in_slot = true};
  MarkAt(RecoveryKind::kFixed, here);
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
  if (number < 0 || block_->calls_leave || !options_.runs_in_place ||
      !options_.runs_in_place(number)) {
    // RCX and R11 need no reload: the system call replaces them. But the exit stores them.
    EmitLeave(JIT_TO_SYSCALL, next, here);
    return;
  }
  MarkAt(RecoveryKind::kFixed, here);
  code_.MoveImmediate(Reg::kRax, static_cast<std::uint64_t>(number));
  code_.Bytes({0x0f, 0x05});
  rcx_ = r11_ = {};  // the kernel has put the flags into R11
  MarkAt(RecoveryKind::kAfterSystemCall, OffsetOf(next));
  code_.MoveImmediate(Reg::kRcx, next);
  MarkAt(RecoveryKind::kFixed, OffsetOf(next));
  EmitExit(next);
}

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

void Emitter::EmitTerminal(const Step* last) {
  std::visit(
      Overloaded{
          [&](const JumpTo& jump) {
            const bool own = last != nullptr && last->instruction.klass == Class::kJump;
            const std::int32_t here =
                own ? last->offset : static_cast<std::int32_t>(block_->length);
            ReloadAll(here);
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

// ---- blocks -------------------------------------------------------------------------------------

void Emitter::Emit(const Block& block, EntryKind entry, std::uint64_t address) {
  Begin(block, address);
  if (entry == EntryKind::kIndirect) EmitIndirectEntry(block);
  if (block.is_self_checking) EmitSelfCheck(block);
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
    if (klass == Class::kCopy && IsUnsupportedGs(step.instruction)) {
      EmitLeave(JIT_TO_TRAP, block.PcOf(step), step.offset);
      return;
    }
    if (klass != Class::kCopy && klass != Class::kBranch) {
      EmitTerminal(&step);
      return;
    }
    EmitStep(step);
  }
  EmitTerminal(block.steps.empty() ? nullptr : &block.steps.back());
}

void Emitter::EmitIndirectStub(const Block& block, std::uint64_t address) {
  Begin(block, address);
  EmitIndirectEntry(block);
  ReloadAll(0);
  MarkAt(RecoveryKind::kFixed, 0);
  EmitExit(block.pc);
}

}  // namespace dunebox::jit
