#include "jit-fallback/dispatch/confined_fault.h"

#include <signal.h>

#include <array>

#include "jit-fallback/dispatch/operand_address.h"
#include "jit-fallback/emit/confinement.h"
#include "jit-fallback/emit/implicit_operands.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kStackFault = 12, kGeneralProtection = 13, kPageFault = 14;
constexpr std::uint64_t kPresent = 1, kWrite = 2, kUser = 4;  // of a page fault's error code

struct OneAccess {
  std::uint64_t address;
  bool is_write, is_stack;
};

bool UsesStackSegment(const Instruction& instruction) {
  const int base = PlainBase(instruction);
  if (instruction.segment != Segment::kNone || instruction.modrm_offset == 0) return false;
  if (base >= 0) return base == static_cast<int>(kRsp) || base == static_cast<int>(kRbp);
  const bool has_sib_base =
      (instruction.modrm & 7) == 4 && ((instruction.sib & 7) != 5 || instruction.modrm >> 6 != 0);
  return has_sib_base && (instruction.rex & 1) == 0 &&
         ((instruction.sib & 7) == kRsp || (instruction.sib & 7) == kRbp);
}

// In the order in which the processor makes them, more or less.
struct Accesses {
  std::array<OneAccess, 8> list;
  std::size_t count = 0;
  void Add(OneAccess access) { list[count++] = access; }
};

Accesses AccessesOf(const Instruction& instruction, std::span<const std::uint8_t> bytes,
                    const Context& context) {
  Accesses found;
  const bool pops = StackUseOf(instruction) == StackUse::kPop ||
                    instruction.klass == Class::kReturn;
  const bool calls =
      instruction.klass == Class::kCall || instruction.klass == Class::kCallIndirect;
  const bool pushes = StackUseOf(instruction) == StackUse::kPush || calls ||
                      instruction.operation == Operation::kEnter;
  const std::uint64_t rsp =
      context.gpr[instruction.operation == Operation::kLeave ? kRbp : kRsp];
  if (pops) found.Add({rsp, false, true});
  if (instruction.has_memory && instruction.access != Access::kNone) {
    found.Add({OperandAddress(instruction, bytes, context), instruction.access != Access::kRead,
               UsesStackSegment(instruction)});
  }
  if (pushes) found.Add({rsp - (instruction.operand_size ? 2 : 8), true, true});
  const ImplicitOperands implicit = ImplicitOf(instruction, bytes);
  constexpr unsigned kOrder[] = {kRsi, kRdi, kRbx, kRax};
  for (const unsigned reg : kOrder) {
    if (((implicit.all() >> reg) & 1) == 0) continue;
    std::uint64_t address = context.gpr[reg];
    if (instruction.operation == Operation::kXlat) address += context.gpr[kRax] & 0xff;
    found.Add({address, ((implicit.written >> reg) & 1) != 0, false});
  }
  return found;
}

}  // namespace

std::optional<NativeFault> FaultOutsideUserHalf(const Instruction& instruction,
                                                std::span<const std::uint8_t> bytes,
                                                const Context& context) {
  const Accesses accesses = AccessesOf(instruction, bytes, context);
  for (std::size_t i = 0; i < accesses.count; ++i) {
    const OneAccess& access = accesses.list[i];
    // Near 0 nothing is mapped, and the base that was confined may have been below it.
    constexpr std::uint64_t kLowest = Confinement::kNear;
    if (access.address >= kLowest && access.address < kUserHalfEnd) continue;
    const std::uint64_t high = access.address >> 47;
    constexpr std::uint64_t kKernelHalf = 0x1'ffff;
    if (high != 0 && high != kKernelHalf) {
      return access.is_stack ? NativeFault{kStackFault, 0, 0, SIGBUS, SI_KERNEL}
                             : NativeFault{kGeneralProtection, 0, 0, SIGSEGV, SI_KERNEL};
    }
    const std::uint64_t error =
        kUser | (access.is_write ? kWrite : 0) | (high != 0 ? kPresent : 0);
    return NativeFault{kPageFault, error, access.address, SIGSEGV, SEGV_MAPERR};
  }
  return std::nullopt;
}

}  // namespace dunebox::jit
