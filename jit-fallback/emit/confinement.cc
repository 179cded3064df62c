#include "jit-fallback/emit/confinement.h"

#include <bit>
#include <cstdlib>
#include <cstring>

#include "jit-fallback/emit/destination.h"
#include "jit-fallback/emit/encoding.h"
#include "jit-fallback/emit/implicit_operands.h"

namespace dunebox::jit {
namespace {

// More than any chain of constants in one block needs, and far less than the guard.
constexpr std::int64_t kMostDrift = std::int64_t{4} << 30;

bool IsLegacy(const Instruction& instruction, unsigned map, unsigned opcode) {
  return instruction.encoding == Encoding::kLegacy && instruction.opcode_map == map &&
         instruction.opcode == opcode;
}

std::int64_t ImmediateOf(const Instruction& instruction, std::span<const std::uint8_t> bytes) {
  const std::uint8_t* at = bytes.data() + instruction.immediate_offset;
  if (instruction.immediate_size == 1) return static_cast<std::int8_t>(*at);
  if (instruction.immediate_size == 2) return static_cast<std::int16_t>(at[0] | (at[1] << 8));
  if (instruction.immediate_size == 8) {
    std::int64_t value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  std::int32_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

bool IsX87Store(const Instruction& instruction) {
  return instruction.opcode_map == 0 && (instruction.opcode & 0xf8) == 0xd8 &&
         instruction.access != Access::kRead;
}

// Whether it looks at its operand while nobody traces is not said. [intel/vol2 PTWRITE]
bool IsTraceWrite(const Instruction& instruction) {
  return IsLegacy(instruction, 1, 0xae) && instruction.rep;
}

// CLFLUSH, CLFLUSHOPT, CLWB. XSAVEOPT and PTWRITE are of the same opcode, and prove as little.
bool IsFlush(const Instruction& instruction) {
  constexpr std::uint8_t kFirst = 6 << 3, kExtension = 7 << 3;
  return IsLegacy(instruction, 1, 0xae) && (instruction.modrm & kExtension) >= kFirst;
}

// Of segments and descriptor tables (LAR, LSL, VERR, SGDT, ...). Some the kernel may do itself, where the processor refuses
// them to programs (UMIP).
bool IsAboutSegments(const Instruction& instruction) {
  constexpr std::uint8_t kLast = 0x03;
  return instruction.opcode_map == 1 && instruction.opcode <= kLast;
}

bool IsRegisterForm(const Instruction& instruction) { return instruction.modrm >> 6 == 3; }
unsigned RmOf(const Instruction& instruction) {
  return (instruction.modrm & 7U) | ((instruction.rex & 1) != 0 ? 8U : 0U);
}
bool IsWide(const Instruction& instruction) { return (instruction.rex & 8) != 0; }

}  // namespace

std::uint64_t Confine(std::uint64_t address) {
  constexpr std::uint64_t kLow = kUserHalfEnd - 1;
  return (address & kLow) | ((address & ~kLow) << 2);
}

std::uint64_t Unconfine(std::uint64_t confined) {
  // Of a drift across 2^46 and back only the bits above tell.
  if (confined >> 48 == 0) return confined;
  constexpr std::uint64_t kLow = kUserHalfEnd - 1;
  const auto high = static_cast<std::int64_t>(confined & (~kLow << 2)) >> 2;
  return (confined & kLow) | static_cast<std::uint64_t>(high);
}

int PlainBase(const Instruction& instruction) {
  if (!instruction.has_memory || instruction.modrm_offset == 0 || instruction.rip_relative) {
    return -1;
  }
  const unsigned high = (instruction.rex & 1) != 0 ? 8 : 0;
  if ((instruction.modrm & 7) != 4) return static_cast<int>((instruction.modrm & 7U) | high);
  const bool has_index = (instruction.sib & 0x38) != 0x20 || (instruction.rex & 2) != 0;
  const bool has_base = (instruction.sib & 7) != 5 || instruction.modrm >> 6 != 0;
  if (has_index || !has_base || instruction.operation == Operation::kGatherScatter) return -1;
  return static_cast<int>((instruction.sib & 7U) | high);
}

bool SurelyAccesses(const Instruction& instruction, std::span<const std::uint8_t> bytes) {
  switch (instruction.encoding) {
    case Encoding::kLegacy:
      // An x87 store whose exception is not masked stores nothing, and execution goes on: whether
      // the address has been looked at is the processor's affair (Zen 4 does).
      // Bit strings access another place than the operand says. What is only flushed is not read.
      return !IsX87Store(instruction) && !IsTraceWrite(instruction) && !IsBitString(instruction) &&
             !IsAboutSegments(instruction) && !IsFlush(instruction) &&
             instruction.operation != Operation::kStringRep &&
             instruction.operation != Operation::kMaskMove &&
             instruction.operation != Operation::kXsaveFamily;
    case Encoding::kVex2:
    case Encoding::kVex3: {  // vmaskmov and vpmaskmov
      const unsigned opcode = instruction.opcode;
      return instruction.operation != Operation::kGatherScatter &&
             instruction.operation != Operation::kMaskMove &&
             (instruction.opcode_map != 2 || !((opcode >= 0x2c && opcode <= 0x2f) ||
                                               opcode == 0x8c || opcode == 0x8e));
    }
    case Encoding::kEvex:  // EVEX.aaa: an opmask
      return (bytes[instruction.prefix_length + 3U] & 7) == 0;
  }
  return false;
}

void Confinement::Enter() {
  drift_.fill(kUnknown);
  drift_[kRsp] = kStackDrift;
}

void Confinement::Move(unsigned to, std::int64_t from, std::int64_t by) {
  const std::int64_t distance = by < 0 ? -by : by;
  drift_[to] = from < 0 || distance > kMostDrift || from + distance > kMostDrift
                   ? kUnknown
                   : from + distance;
}

// Pushes and pops of one register or operand. Pops of RSP itself are not for here.
bool Confinement::AfterStack(const Instruction& instruction) {
  const StackUse use = StackUseOf(instruction);
  if (use == StackUse::kNone) return false;
  drift_[kRsp] = use == StackUse::kPush ? 0 : 8;
  if (instruction.operation == Operation::kLeave) {
    drift_[kRbp] = kUnknown;
    return true;
  }
  if (use == StackUse::kPop && instruction.opcode_map == 0 &&
      (instruction.opcode & 0xf8) == 0x58) {
    drift_[(instruction.opcode & 7U) | ((instruction.rex & 1) != 0 ? 8U : 0U)] = kUnknown;
  }
  if (instruction.opcode_map == 0 && instruction.opcode == 0x8f && IsRegisterForm(instruction)) {
    drift_[RmOf(instruction)] = kUnknown;
  }
  return true;
}

// Forms whose result is as near to the user half as their operand was.
bool Confinement::AfterArithmetic(const Instruction& instruction,
                                  std::span<const std::uint8_t> bytes) {
  if (instruction.encoding != Encoding::kLegacy || instruction.opcode_map != 0 ||
      !IsWide(instruction) || instruction.lock) {
    return false;
  }
  const unsigned opcode = instruction.opcode;
  const unsigned extension = (instruction.modrm >> 3) & 7U;
  if (opcode == 0x8d && !instruction.address_size) {  // lea
    const int base = PlainBase(instruction);
    if (base < 0) return false;
    Move(Number(RegField(instruction)), drift_[static_cast<unsigned>(base)], instruction.displacement);
    return true;
  }
  if ((opcode & 0xf8) == 0xb8) {  // mov reg, imm64
    const auto value = static_cast<std::uint64_t>(ImmediateOf(instruction, bytes));
    drift_[(opcode & 7U) | ((instruction.rex & 1) != 0 ? 8U : 0U)] =
        value < kUserHalfEnd ? 0 : kUnknown;
    return true;
  }
  if (!IsRegisterForm(instruction)) return false;
  const unsigned rm = RmOf(instruction);
  switch (opcode) {
    case 0x89:  // mov rm, reg
      drift_[rm] = drift_[Number(RegField(instruction))];
      return true;
    case 0x8b:  // mov reg, rm
      drift_[Number(RegField(instruction))] = drift_[rm];
      return true;
    case 0x81:
    case 0x83: {
      const std::int64_t value = ImmediateOf(instruction, bytes);
      if (extension == 0 || extension == 5) {  // add, sub
        Move(rm, drift_[rm], value);
        return true;
      }
      if (extension != 4) return false;
      if (value >= 0) {  // and: at most the constant
        drift_[rm] = 0;
      } else {
        Move(rm, drift_[rm], value);
      }
      return true;
    }
    case 0xff:
      if (extension > 1) return false;
      Move(rm, drift_[rm], 1);  // inc, dec
      return true;
    default:
      return false;
  }
}

// An access at [rsp + displacement] has been made.
void Confinement::TouchStack(const Instruction& instruction) {
  if (PlainBase(instruction) != static_cast<int>(kRsp) || !IsConfined(kRsp)) return;
  const std::int64_t distance = std::abs(std::int64_t{instruction.displacement});
  // EVEX displacements of one byte count operands.
  if (instruction.encoding != Encoding::kEvex && instruction.segment == Segment::kNone && !instruction.address_size && distance < kNear &&
      distance < drift_[kRsp]) {
    drift_[kRsp] = distance;
  }
}

void Confinement::After(const Instruction& instruction, std::span<const std::uint8_t> bytes) {
  const bool pops_rsp = (IsLegacy(instruction, 0, 0x5c) && (instruction.rex & 1) == 0) ||
                        (IsLegacy(instruction, 0, 0x8f) && IsRegisterForm(instruction) &&
                         RmOf(instruction) == kRsp);
  if (pops_rsp) {
    drift_[kRsp] = kUnknown;
    return;
  }
  if (AfterStack(instruction) || AfterArithmetic(instruction, bytes)) return;
  if (instruction.access != Access::kNone && SurelyAccesses(instruction, bytes)) {
    TouchStack(instruction);
  }
  for (unsigned left = WrittenBy(instruction); left != 0; left &= left - 1) {
    drift_[static_cast<unsigned>(std::countr_zero(left))] = kUnknown;
  }
}

}  // namespace dunebox::jit
