// The emitter under isolation `seg`: RSP. It holds base + offset, so that PUSH, POP, CALL, RET and
// [rsp + displacement] stay as they are; an instruction that reads or writes it as a number gets a
// scratch register in its place.
//
// Flags are the guest's all the time. RSP is converted to the guest's value modulo 4 GiB, which is
// right while our own instructions take its base away and put it back.
#include "jit-fallback/emit/seg_stack.h"

#include <cstdlib>
#include <cstring>

#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/confinement.h"
#include "jit-fallback/emit/destination.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/encoding.h"
#include "jit-fallback/emit/implicit_operands.h"

namespace dunebox::jit {
namespace {

// Constants that move RSP and stay as they are. docs/isolation.md has the sum.
constexpr std::int32_t kMostChange = 4096;
// Displacements of accesses through RSP.
constexpr std::int32_t kMostDisplacement = 64 * 1024;
// RSP at the end of a block, from where it has been proven to be.
constexpr std::uint32_t kMostDrift = 128 * 1024;
constexpr std::uint32_t kMostDriftInBlock = 32 * 1024;

bool IsOneByteMap(const Instruction& instruction) {
  return instruction.encoding == Encoding::kLegacy && instruction.opcode_map == 0;
}

unsigned Extension(const Instruction& instruction) { return (instruction.modrm >> 3) & 7U; }
bool IsRegisterForm(const Instruction& instruction) { return instruction.modrm >> 6 == 3; }
bool IsWide(const Instruction& instruction) { return (instruction.rex & 8) != 0; }

bool HasIndex(const Instruction& instruction) {
  return (instruction.sib & 0x38) != 0x20 || (instruction.rex & 2) != 0;
}

// add, sub or and rsp, immediate.
bool IsStackConstant(const Instruction& instruction) {
  if (!IsOneByteMap(instruction) || !IsRegisterForm(instruction) || !IsWide(instruction)) {
    return false;
  }
  const unsigned extension = Extension(instruction);
  return (instruction.opcode == 0x81 || instruction.opcode == 0x83) &&
         (extension == 0 || extension == 4 || extension == 5);
}

// Of kReg and kRm, those that have RSP's number and are no memory operand.
std::uint8_t StackNumbers(const Instruction& instruction) {
  std::uint8_t fields = 0;
  if (RegField(instruction) == Reg::kRsp) fields |= Instruction::kReg;
  const unsigned rm =
      instruction.modrm_offset != 0 ? instruction.modrm & 7U : instruction.opcode & 7U;
  if (!instruction.has_memory && rm == kRsp && (instruction.rex & 1) == 0) {
    fields |= Instruction::kRm;
  }
  return fields;
}

}  // namespace

std::uint8_t StackFields(const Instruction& instruction) {
  std::uint8_t fields = instruction.general & StackNumbers(instruction);
  if ((instruction.general & Instruction::kVvvv) != 0 && instruction.vvvv == kRsp) {
    fields |= Instruction::kVvvv;
  }
  return fields;
}

// Without REX it is AH.
bool NamesStackByte(const Instruction& instruction) {
  return instruction.rex != 0 &&
         (instruction.general_byte & StackNumbers(instruction)) != 0;
}

bool IsThroughStack(const Instruction& instruction) {
  return HasStackBase(instruction) && !HasIndex(instruction) && !instruction.address_size &&
         instruction.operation != Operation::kGatherScatter && !IsBitString(instruction) &&
         std::abs(std::int64_t{instruction.displacement}) <= kMostDisplacement;
}

bool Emitter::BeginScratch(const Step& step, unsigned count) {
  // MULX names four of the six that can be had: the other two have to be free, RCX among them.
  if (count > 1) Reload(rcx_, Reg::kRcx, JIT_SLOT_RCX, step.offset);
  MarkAt(RecoveryKind::kFixed, step.offset);
  // Each of them may become an address.
  if (!TakeScratch(step.instruction, count, Scratch::kUntouched) || !IsSimpleBase(scratch_[count - 1])) {
    EmitLeave(JIT_TO_TRAP, block_->PcOf(step), step.offset);
    return false;
  }
  MarkAt(RecoveryKind::kFixed, step.offset);
  return true;
}

// RSP becomes base + what the scratch register holds, of which 32 bits count.
void Emitter::CommitStack(std::int32_t next) {
  const auto value = static_cast<Reg>(scratch_[0]);
  rsp_in_scratch_ = true;
  MarkAt(RecoveryKind::kFixed, next);
  code_.Bytes({0x89, static_cast<std::uint8_t>(0xc0 | Low(value) << 3 | Low(value))});
  code_.LoadSlot(Reg::kRsp, JIT_WINDOW_BASE);
  code_.Bytes({0x48, 0x8d, 0x24, static_cast<std::uint8_t>(Low(value) << 3 | 4)});
  rsp_in_scratch_ = false;
  MarkAt(RecoveryKind::kFixed, next);
  drift_ = {.proven = true, .distance = 0};
}

// `write` writes ESP, and so all of RSP; the base is added behind it.
template <typename Write>
void Emitter::EmitStackWrite(const Step& step, Write write) {
  if (!BeginScratch(step)) return;
  const auto base = static_cast<Reg>(scratch_[0]);
  const std::int32_t next = step.offset + step.instruction.length;
  code_.LoadSlot(base, JIT_WINDOW_BASE);
  write();
  SettleRegisters(step);
  MarkAt(RecoveryKind::kFixed, next);
  code_.Bytes({0x48, 0x8d, 0x24, static_cast<std::uint8_t>(Low(base) << 3 | 4)});
  drift_ = {.proven = true, .distance = 0};
  ReleaseScratch(0, next);
}

void Emitter::Rebase(std::int32_t guest) {
  Step nothing{};
  nothing.offset = static_cast<std::uint16_t>(guest);
  EmitStackWrite(nothing, [&] { code_.Bytes({0x89, 0xe4}); });  // mov esp, esp
}

// The instruction, which has been emitted, has moved RSP by at most so much.
void Emitter::MoveStack(const Step& step, std::uint32_t distance) {
  drift_.distance += distance;
  if (drift_.distance > kMostDriftInBlock) Rebase(step.offset + step.instruction.length);
}

// The forms that compilers use, with less. False when it is none of them.
bool Emitter::EmitStackOperandFast(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (!IsOneByteMap(instruction) || instruction.operand_size) return false;
  const auto bytes = BytesOf(step);
  const auto copy = [&] {
    MarkAt(RecoveryKind::kLinear, step.offset);
    code_.Copy(bytes);
  };
  // The same without REX.W.
  const auto put_narrow = [&] {
    code_.Copy(bytes.first(instruction.prefix_length));
    if (instruction.rex != 0) code_.Byte(static_cast<std::uint8_t>(instruction.rex & ~8));
    code_.Copy(bytes.subspan(instruction.opcode_offset));
  };
  const std::uint8_t fields = StackFields(instruction);
  if (IsStackConstant(instruction)) {
    std::int32_t value = static_cast<std::int8_t>(bytes[instruction.immediate_offset]);
    if (instruction.immediate_size == 4) {
      std::memcpy(&value, bytes.data() + instruction.immediate_offset, 4);
    }
    const bool is_and = Extension(instruction) == 4;
    if (value < -kMostChange || value > kMostChange || (is_and && value >= 0)) return false;
    copy();
    MoveStack(step, static_cast<std::uint32_t>(std::abs(value)));
    return true;
  }
  const bool is_move = instruction.opcode == 0x89 || instruction.opcode == 0x8b;
  if (!is_move || !IsRegisterForm(instruction)) return false;
  const bool rsp_in_reg = fields == Instruction::kReg;
  const bool rsp_in_rm = fields == Instruction::kRm;
  if (!rsp_in_reg && !rsp_in_rm) return false;  // mov rsp, rsp
  const bool is_written = (instruction.opcode == 0x89) == rsp_in_rm;
  if (is_written) {
    EmitStackWrite(step, put_narrow);
  } else {
    MarkAt(RecoveryKind::kFixed, step.offset);
    put_narrow();
    SettleRegisters(step);
  }
  return true;
}

// LEA to or from RSP.
void Emitter::EmitStackLea(const Step& step) {
  const Instruction& instruction = step.instruction;
  const auto bytes = BytesOf(step);
  const bool to_stack = RegField(instruction) == Reg::kRsp;
  const bool is_plain_base = HasStackBase(instruction) && !HasIndex(instruction) &&
                             !instruction.address_size && IsWide(instruction);
  const std::int64_t distance = std::abs(std::int64_t{instruction.displacement});
  MarkAt(RecoveryKind::kFixed, step.offset);
  if (to_stack && is_plain_base && distance <= kMostChange) {
    code_.Copy(bytes);
    MoveStack(step, static_cast<std::uint32_t>(distance));
    return;
  }
  if (to_stack) {
    EmitStackWrite(step, [&] {
      if (instruction.rip_relative) {
        code_.MoveImmediate(Reg::kRsp, RipTarget(step) & 0xffff'ffff);
        can_move_ = false;
        return;
      }
      code_.Copy(bytes.first(instruction.prefix_length));
      if (instruction.rex != 0) code_.Byte(static_cast<std::uint8_t>(instruction.rex & ~8));
      code_.Copy(bytes.subspan(instruction.opcode_offset));
    });
    return;
  }
  // The low 32 bits are right, with and without the base.
  const bool is_narrow = instruction.address_size || !IsWide(instruction);
  const bool gets_prefix =
      is_plain_base && distance <= kMostDisplacement && instruction.length < kLongestInstruction;
  if (!is_narrow && !gets_prefix) {
    if (!BeginScratch(step)) return;
    code_.Bytes({0x89, static_cast<std::uint8_t>(0xe0 | scratch_[0])});  // mov scratch, esp
    EmitWindowedOperand(step, kStackBase, static_cast<Reg>(scratch_[0]));
    SettleRegisters(step);
    const std::int32_t next = step.offset + instruction.length;
    MarkAt(RecoveryKind::kFixed, next);
    ReleaseScratch(0, next);
    return;
  }
  if (!is_narrow) code_.Byte(kAddressSizePrefix);
  code_.Copy(bytes);
  SettleRegisters(step);
}

void Emitter::EmitStackOperand(const Step& step) {
  const Instruction& instruction = step.instruction;
  const bool is_lea = instruction.operation == Operation::kLea;
  if (is_lea && !(instruction.operand_size && RegField(instruction) == Reg::kRsp)) {
    return EmitStackLea(step);
  }
  if (instruction.has_memory && AddsSegment(instruction)) return EmitStackAndSegment(step);
  if (EmitStackOperandFast(step)) return;
  if (!BeginScratch(step)) return;
  const auto substitute = static_cast<Reg>(scratch_[0]);
  const std::int32_t next = step.offset + instruction.length;
  code_.Bytes({0x89, static_cast<std::uint8_t>(0xe0 | Low(substitute))});  // mov substitute, esp
  EmitWindowedOperand(step, StackFields(instruction), substitute);
  SettleRegisters(step);
  FollowStack(step);
  if (StackUseOf(instruction) != StackUse::kPush && MayWrite(instruction, Reg::kRsp)) CommitStack(next);
  MarkAt(RecoveryKind::kFixed, next);
  ReleaseScratch(0, next);
}

// RSP in ModRM.reg and a segment base of the guest's: one register for each.
void Emitter::EmitStackAndSegment(const Step& step) {
  const Instruction& instruction = step.instruction;
  if (!BeginScratch(step, 2)) return;
  const auto value = static_cast<Reg>(scratch_[0]);
  const auto address = static_cast<Reg>(scratch_[1]);
  const std::int32_t next = step.offset + instruction.length;
  EmitAddress(step, address);
  AddSegmentBase(instruction.segment, address, value);
  code_.Bytes({0x89, static_cast<std::uint8_t>(0xe0 | Low(value))});  // mov value, esp
  EmitWithBase(step, address);
  const unsigned scaled = HasScaledDisplacement(instruction) ? 1 : 0;
  const std::uint32_t modrm = code_.size() - instruction.immediate_size - scaled - 1;
  code_.Patch8(modrm, static_cast<std::uint8_t>((code_.code()[modrm] & 0xc0) | Low(value) << 3 |
                                                Low(address)));
  SettleRegisters(step);
  if (MayWrite(instruction, Reg::kRsp)) CommitStack(next);
  MarkAt(RecoveryKind::kFixed, next);
  ReleaseScratch(1, next);
  ReleaseScratch(0, next);
}

// enter imm16, 0: the new stack pointer is computed first, so that a fault finds the old one.
void Emitter::EmitEnter(const Step& step) {
  const Instruction& instruction = step.instruction;
  constexpr unsigned kLevels = 31;
  const std::uint8_t level = block_->bytes[step.offset + instruction.immediate_offset + 2U];
  if ((level & kLevels) != 0) {  // copies of older frame pointers: nobody makes them
    EmitLeave(JIT_TO_TRAP, block_->PcOf(step), step.offset);
    return;
  }
  if (!BeginScratch(step)) return;
  const auto value = static_cast<Reg>(scratch_[0]);
  // lea value, [rsp - 8 - size]; mov [rsp - 8], rbp; lea ebp, [rsp - 8]
  code_.Bytes({0x8d, static_cast<std::uint8_t>(0x84 | Low(value) << 3), 0x24});
  code_.Value(-8 - std::int32_t{instruction.immediate16});
  code_.Bytes({0x48, 0x89, 0x6c, 0x24, 0xf8});
  code_.Bytes({0x8d, 0x6c, 0x24, 0xf8});
  const std::int32_t next = step.offset + instruction.length;
  CommitStack(next);
  ReleaseScratch(0, next);
}

// The old stack pointer waits in a slot until the frame pointer has been read.
void Emitter::EmitLeaveFrame(const Step& step) {
  MarkAt(RecoveryKind::kFixed, step.offset);
  code_.StoreSlot(JIT_SLOT_SCRATCH0, Reg::kRsp);
  scratch_[0] = kRsp;
  scratch_in_slot_ = {true, false};
  MarkAt(RecoveryKind::kFixed, step.offset);
  code_.Bytes({0x89, 0xed});  // mov ebp, ebp
  code_.LoadSlot(Reg::kRsp, JIT_WINDOW_BASE);
  code_.Bytes({0x48, 0x8d, 0x24, 0x2c});  // lea rsp, [rsp + rbp]
  code_.Pop(Reg::kRbp);
  scratch_in_slot_ = {};
  MarkAt(RecoveryKind::kFixed, step.offset + step.instruction.length);
  drift_ = {.proven = true, .distance = sizeof(std::uint64_t)};
}

// What the instruction, which has been emitted, proves of RSP.
void Emitter::FollowStack(const Step& step) {
  const Instruction& instruction = step.instruction;
  const StackUse use = StackUseOf(instruction);
  if (use == StackUse::kPush) {
    drift_ = {.proven = true, .distance = 0};
  } else if (use == StackUse::kPop) {
    drift_ = {.proven = true, .distance = sizeof(std::uint64_t)};
  } else if (IsThroughStack(instruction) && instruction.access != Access::kNone &&
             SurelyAccesses(instruction, BytesOf(step)) && !AddsSegment(instruction)) {
    constexpr std::uint32_t kMostScale = 64;
    const std::uint32_t scale = HasScaledDisplacement(instruction) ? kMostScale : 1;
    drift_ = {.proven = true,
              .distance = static_cast<std::uint32_t>(std::abs(instruction.displacement)) * scale};
  }
}

void Emitter::SettleWindowedStack(std::int32_t guest) {
  const bool is_settled = drift_.proven ? drift_.distance <= kMostDrift : drift_.distance == 0;
  if (!is_settled) Rebase(guest);
}

}  // namespace dunebox::jit
