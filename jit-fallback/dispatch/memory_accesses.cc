#include "jit-fallback/dispatch/memory_accesses.h"

#include "jit-fallback/decode/operand_size.h"
#include "jit-fallback/emit/confinement.h"
#include "jit-fallback/emit/encoding.h"
#include "jit-fallback/emit/implicit_operands.h"

namespace dunebox::jit {
namespace {

bool UsesStackSegment(const Instruction& instruction) {
  const int base = PlainBase(instruction);
  if (instruction.segment != Segment::kNone || instruction.modrm_offset == 0) return false;
  if (base >= 0) return base == static_cast<int>(kRsp) || base == static_cast<int>(kRbp);
  const bool has_sib_base =
      (instruction.modrm & 7) == 4 && ((instruction.sib & 7) != 5 || instruction.modrm >> 6 != 0);
  return has_sib_base && (instruction.rex & 1) == 0 &&
         ((instruction.sib & 7) == kRsp || (instruction.sib & 7) == kRbp);
}

unsigned BytesByOperand(const Instruction& instruction) {
  return (instruction.rex & 8) != 0 ? 8 : instruction.operand_size ? 2 : 4;
}

unsigned StackWord(const Instruction& instruction) {
  return instruction.operand_size && (instruction.rex & 8) == 0 ? 2 : 8;
}

// Of operands behind registers that the instruction does not name.
unsigned ImplicitSize(const Instruction& instruction) {
  constexpr unsigned kCacheLine = 64;
  switch (instruction.operation) {
    case Operation::kStringNoRep:
    case Operation::kStringRep:
      return instruction.opcode % 2 == 0 ? 1 : BytesByOperand(instruction);
    case Operation::kXlat:
      return 1;
    case Operation::kMaskMove:
      return instruction.has_mmx ? 8 : 16;
    case Operation::kEnter:
      return 8;
    case Operation::kClzero:
    case Operation::kMovdir64b:
    case Operation::kEnqcmd:
      return kCacheLine;
    default:
      return 0;
  }
}

// What returns that the runtime carries out find on the stack.
unsigned PoppedSize(const Instruction& instruction) {
  if (instruction.operation == Operation::kReturnFar) return 2 * BytesByOperand(instruction);
  if (instruction.operation == Operation::kInterruptReturn) return 5 * BytesByOperand(instruction);
  if (instruction.klass == Class::kReturn) return 8;
  return StackUseOf(instruction) == StackUse::kPop ? StackWord(instruction) : 0;
}

unsigned PushedSize(const Instruction& instruction) {
  const bool calls =
      instruction.klass == Class::kCall || instruction.klass == Class::kCallIndirect;
  if (calls) return 8;
  const bool pushes = StackUseOf(instruction) == StackUse::kPush ||
                      instruction.operation == Operation::kEnter;
  return pushes ? StackWord(instruction) : 0;
}

void AddImplicit(const Instruction& instruction, std::span<const std::uint8_t> bytes,
                 const AddressRegisters& registers, MemoryAccesses& found) {
  const ImplicitOperands implicit = ImplicitOf(instruction, bytes);
  const unsigned size = ImplicitSize(instruction);
  constexpr unsigned kOrder[] = {kRsi, kRdi, kRbx, kRax};
  for (const unsigned reg : kOrder) {
    if (((implicit.all() >> reg) & 1) == 0) continue;
    std::uint64_t address = registers.gpr[reg];
    if (instruction.operation == Operation::kXlat) address += registers.gpr[kRax] & 0xff;
    found.Add({.address = address,
               .size = size,
               .reads = ((implicit.read >> reg) & 1) != 0,
               .writes = ((implicit.written >> reg) & 1) != 0,
               .is_stack = false});
  }
}

}  // namespace

MemoryAccesses MemoryAccessesOf(const Instruction& instruction, std::span<const std::uint8_t> bytes,
                                const AddressRegisters& registers) {
  MemoryAccesses found;
  const std::uint64_t rsp =
      registers.gpr[instruction.operation == Operation::kLeave ? kRbp : kRsp];
  if (const unsigned size = PoppedSize(instruction); size != 0) {
    found.Add({.address = rsp, .size = size, .reads = true, .writes = false, .is_stack = true});
  }
  if (instruction.has_memory && instruction.access != Access::kNone) {
    found.Add({.address = OperandAddress(instruction, bytes, registers),
               .size = OperandSize(instruction, bytes),
               .reads = instruction.access != Access::kWrite,
               .writes = instruction.access != Access::kRead,
               .is_stack = UsesStackSegment(instruction)});
  }
  if (const unsigned size = PushedSize(instruction); size != 0) {
    found.Add({.address = rsp - size, .size = size, .reads = false, .writes = true, .is_stack = true});
  }
  AddImplicit(instruction, bytes, registers, found);
  return found;
}

}  // namespace dunebox::jit
