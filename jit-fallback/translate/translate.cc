#include <cstring>

#include "jit-fallback/translate/block.h"

namespace dunebox::jit {
namespace {

bool EndsBlock(Class klass) {
  switch (klass) {
    case Class::kCopy:
    case Class::kBranch:
      return false;
    case Class::kJump:
    case Class::kCall:
    case Class::kJumpIndirect:
    case Class::kCallIndirect:
    case Class::kReturn:
    case Class::kSystemCall:
    case Class::kEmulate:
    case Class::kTrap:
    case Class::kRefuse:
      return true;
  }
  return true;
}

bool IsPush(const Instruction& instruction) {
  if (instruction.encoding != Encoding::kLegacy) return false;
  const std::uint8_t opcode = instruction.opcode;
  if (instruction.opcode_map == 1) return opcode == 0xa0 || opcode == 0xa8;
  if (instruction.opcode_map != 0) return false;
  return (opcode & 0xf8) == 0x50 || opcode == 0x68 || opcode == 0x6a || opcode == 0x9c ||
         opcode == 0xc8 || (opcode == 0xff && ((instruction.modrm >> 3) & 7) == 6);
}

bool MayStore(const Instruction& instruction) {
  if (IsPush(instruction)) return true;
  switch (instruction.operation) {
    case Operation::kStringNoRep:
    case Operation::kStringRep:
    case Operation::kMaskMove:
    case Operation::kGatherScatter:
    case Operation::kXsaveFamily:
    case Operation::kTileMemory:
    case Operation::kMovdir64b:
    case Operation::kEnqcmd:
    case Operation::kClzero:
      return true;
    default:
      return instruction.access == Access::kWrite || instruction.access == Access::kReadWrite;
  }
}

Terminal TerminalOf(const Block& block, const Step& step) {
  const std::uint64_t next = block.NextOf(step);
  switch (step.instruction.klass) {
    case Class::kCopy:
    case Class::kBranch:
      return JumpTo{next};
    case Class::kJump:
      return JumpTo{TargetOf(block, step)};
    case Class::kCall:
      return CallTo{TargetOf(block, step), next};
    case Class::kJumpIndirect:
      return JumpThrough{};
    case Class::kCallIndirect:
      return CallThrough{next};
    case Class::kReturn:
      return ReturnFrom{step.instruction.immediate16};
    case Class::kSystemCall:
      return MakeSystemCall{next};
    case Class::kEmulate:
      return EmulateOne{};
    case Class::kTrap:
    case Class::kRefuse:
      return RaiseTrap{};
  }
  return RaiseTrap{};
}

}  // namespace

std::uint64_t TargetOf(const Block& block, const Step& step) {
  return block.NextOf(step) + static_cast<std::uint64_t>(std::int64_t{step.instruction.relative});
}

void Translate(std::uint64_t pc, std::span<const std::uint8_t> bytes, const Limits& limits,
               Block& block) {
  block.pc = pc;
  block.length = 0;
  block.bytes = bytes;
  block.steps.clear();
  block.is_self_checking = block.is_single = false;
  unsigned branches = 0;
  for (;;) {
    Step& step = block.steps.emplace_back();
    step.offset = static_cast<std::uint16_t>(block.length);
    const DecodeStatus status = Decode(bytes.subspan(block.length), step.instruction);
    if (status == DecodeStatus::kTruncated) {
      block.steps.pop_back();
      if (block.steps.empty()) {
        block.terminal = FetchFault{pc + bytes.size()};
      } else {
        block.terminal = JumpTo{pc + block.length};
      }
      return;
    }
    block.length += step.instruction.length;
    const Class klass = step.instruction.klass;
    if (klass == Class::kBranch) ++branches;
    const bool stores = limits.ends_at_store && MayStore(step.instruction);
    if (EndsBlock(klass) || stores || branches >= limits.branches ||
        block.steps.size() >= limits.instructions) {
      block.terminal = TerminalOf(block, step);
      return;
    }
  }
}

namespace {

// What RAX holds in front of a step, if the block itself has put a constant there since its last branch; -1
// otherwise.
std::int64_t KnownRaxAt(const Block& block, std::size_t at) {
  constexpr std::uint16_t kRaxBit = 1U << kRax;
  for (std::size_t i = at; i-- > 0;) {
    const Step& step = block.steps[i];
    const Instruction& instruction = step.instruction;
    if (instruction.klass == Class::kBranch) return -1;
    if ((instruction.registers & kRaxBit) == 0) continue;
    const bool is_mov_eax = instruction.encoding == Encoding::kLegacy &&
                            instruction.opcode_map == 0 && instruction.opcode == 0xb8 &&
                            instruction.rex == 0 && instruction.immediate_size == 4;
    if (!is_mov_eax) return -1;
    std::int32_t number;
    std::memcpy(&number, block.bytes.data() + step.offset + instruction.immediate_offset, 4);
    return number;
  }
  return -1;
}

bool UsesX87(const Block& block, std::size_t at) {
  constexpr std::uint8_t kWait = 0x9b, kFirst = 0xd8, kLast = 0xdf, kEmms = 0x77;
  constexpr std::int64_t kX87 = 1;
  const Instruction& instruction = block.steps[at].instruction;
  if (instruction.encoding != Encoding::kLegacy) return false;
  if (instruction.operation == Operation::kXsaveFamily) {
    const bool has_mask = instruction.opcode == 0xc7 || ((instruction.modrm >> 3) & 7) >= 4;
    const std::int64_t mask = has_mask ? KnownRaxAt(block, at) : -1;
    return mask < 0 || (mask & kX87) != 0;
  }
  const std::uint8_t opcode = instruction.opcode;
  if (instruction.opcode_map == 0) return opcode == kWait || (opcode >= kFirst && opcode <= kLast);
  return instruction.has_mmx || (instruction.opcode_map == 1 && opcode == kEmms);
}

}  // namespace

std::int64_t KnownSystemCall(const Block& block) {
  return KnownRaxAt(block, block.steps.size() - 1);
}

bool MayUseX87(const Block& block) {
  for (std::size_t i = 0; i < block.steps.size(); ++i) {
    if (UsesX87(block, i)) return true;
  }
  return false;
}

}  // namespace dunebox::jit
