#include "runtime/unwind/unwinder.h"

namespace dunebox::unwind {
namespace {

constexpr std::uint64_t kWord = 8;
constexpr std::uint64_t kLargestFrame = std::uint64_t{16} << 20;  // of code that only has a frame pointer

std::optional<std::uint64_t> ReadWord(ReadMemory read, std::uint64_t address) {
  std::uint64_t word = 0;
  if (!read(address, std::as_writable_bytes(std::span(&word, 1)))) return std::nullopt;
  return word;
}

std::optional<std::uint64_t> CfaOf(ReadMemory read, const FrameRules& rules, const Registers& registers) {
  if (!rules.cfa_expression.empty()) return Evaluate(rules.cfa_expression, registers, read, std::nullopt);
  return registers[rules.cfa_register] + static_cast<std::uint64_t>(rules.cfa_offset);
}

// The caller's value of a register; nothing when nobody knows it any more.
std::optional<std::uint64_t> ValueOf(ReadMemory read, const Rule& rule, std::uint64_t own, std::uint64_t cfa,
                                     const Registers& registers) {
  switch (rule.kind) {
    case Rule::Kind::kSame:
      return own;
    case Rule::Kind::kUndefined:
      return std::nullopt;
    case Rule::Kind::kAt:
      return ReadWord(read, cfa + static_cast<std::uint64_t>(rule.value));
    case Rule::Kind::kOffset:
      return cfa + static_cast<std::uint64_t>(rule.value);
    case Rule::Kind::kRegister: {
      const auto number = static_cast<std::uint64_t>(rule.value);
      return number < kRegisters ? std::optional(registers[number]) : std::nullopt;
    }
    case Rule::Kind::kAtExpression: {
      const auto address = Evaluate(rule.expression, registers, read, cfa);
      return address ? ReadWord(read, *address) : std::nullopt;
    }
    case Rule::Kind::kExpression:
      return Evaluate(rule.expression, registers, read, cfa);
  }
  return std::nullopt;
}

std::optional<Frame> CallerByRules(ReadMemory read, const FrameRules& rules, const Registers& registers) {
  const std::optional<std::uint64_t> cfa = CfaOf(read, rules, registers);
  if (!cfa) return std::nullopt;
  Frame caller{.is_interrupted = rules.is_signal_frame};
  for (std::size_t number = 0; number < kRegisters; ++number) {
    const bool is_stack = number == kRsp && rules.rules[kRsp].kind == Rule::Kind::kSame;
    const std::uint64_t own = is_stack ? *cfa : registers[number];
    const std::optional<std::uint64_t> value = ValueOf(read, rules.rules[number], own, *cfa, registers);
    if (number == kReturnAddress && !value) return std::nullopt;  // the outermost function
    caller.registers[number] = value.value_or(0);
  }
  return caller;
}

std::optional<Frame> CallerAt(ReadMemory read, const Registers& registers, std::uint64_t return_address) {
  const std::optional<std::uint64_t> pc = ReadWord(read, return_address);
  if (!pc) return std::nullopt;
  Frame caller{.registers = registers};
  caller.registers[kReturnAddress] = *pc;
  caller.registers[kRsp] = return_address + kWord;
  return caller;
}

std::optional<Frame> CallerByFramePointer(ReadMemory read, const Registers& registers) {
  const std::uint64_t rbp = registers[kRbp];
  if (rbp % kWord != 0 || rbp - registers[kRsp] >= kLargestFrame) return std::nullopt;
  const std::optional<std::uint64_t> callers = ReadWord(read, rbp);
  std::optional<Frame> caller = callers ? CallerAt(read, registers, rbp + kWord) : std::nullopt;
  if (caller) caller->registers[kRbp] = *callers;
  return caller;
}

std::optional<Frame> CallerOf(ReadMemory read, LookUp look_up, const Frame& frame, bool is_innermost) {
  const Code code = look_up(frame.place());
  if (!code.is_code) {
    return is_innermost ? CallerAt(read, frame.registers, frame.registers[kRsp]) : std::nullopt;
  }
  const std::optional<FrameRules> rules =
      code.table ? FindRules(read, *code.table, frame.place()) : std::nullopt;
  return rules ? CallerByRules(read, *rules, frame.registers) : CallerByFramePointer(read, frame.registers);
}

}  // namespace

std::vector<Frame> Unwind(ReadMemory read, LookUp look_up, const Frame& innermost, std::size_t most) {
  std::vector<Frame> frames = {innermost};
  while (frames.size() < most) {
    const std::optional<Frame> caller = CallerOf(read, look_up, frames.back(), frames.size() == 1);
    if (!caller || caller->pc() == 0 || !look_up(caller->place()).is_code) break;
    frames.push_back(*caller);
  }
  return frames;
}

}  // namespace dunebox::unwind
