#include "runtime/unwind/expression.h"

#include <vector>

namespace dunebox::unwind {
namespace {

constexpr std::size_t kDeepest = 64;

// [DWARF 4 §7.7.1] Without the families, which have a number in the byte.
enum class Op : std::uint8_t {
  kDereference = 0x06,
  kConstant1 = 0x08,
  kConstant1Signed = 0x09,
  kConstant2 = 0x0a,
  kConstant2Signed = 0x0b,
  kConstant4 = 0x0c,
  kConstant4Signed = 0x0d,
  kConstant = 0x10,
  kConstantSigned = 0x11,
  kAnd = 0x1a,
  kMinus = 0x1c,
  kOr = 0x21,
  kPlus = 0x22,
  kPlusConstant = 0x23,
  kShiftLeft = 0x24,
  kShiftRight = 0x25,
  kGreaterOrEqual = 0x2a,
};
constexpr std::uint8_t kLiteral = 0x30, kBaseRegister = 0x70, kFamily = 32;

std::optional<std::uint64_t> Constant(Op op, TableReader& reader) {
  const auto extended = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  switch (op) {
    case Op::kConstant1: return reader.Byte();
    case Op::kConstant1Signed: return extended(reader.Fixed<std::int8_t>());
    case Op::kConstant2: return reader.Fixed<std::uint16_t>();
    case Op::kConstant2Signed: return extended(reader.Fixed<std::int16_t>());
    case Op::kConstant4: return reader.Fixed<std::uint32_t>();
    case Op::kConstant4Signed: return extended(reader.Fixed<std::int32_t>());
    case Op::kConstant: return reader.Unsigned();
    case Op::kConstantSigned: return extended(reader.Signed());
    default: return std::nullopt;
  }
}

std::optional<std::uint64_t> Combine(Op op, std::uint64_t left, std::uint64_t right) {
  constexpr unsigned kBits = 64;
  switch (op) {
    case Op::kAnd: return left & right;
    case Op::kOr: return left | right;
    case Op::kMinus: return left - right;
    case Op::kPlus: return left + right;
    case Op::kShiftLeft: return right < kBits ? left << right : 0;
    case Op::kShiftRight: return right < kBits ? left >> right : 0;
    case Op::kGreaterOrEqual:
      return static_cast<std::int64_t>(left) >= static_cast<std::int64_t>(right) ? 1 : 0;
    default: return std::nullopt;
  }
}

}  // namespace

std::optional<std::uint64_t> Evaluate(std::span<const std::byte> expression, const Registers& registers,
                                      ReadMemory read, std::optional<std::uint64_t> pushed) {
  std::vector<std::uint64_t> stack;
  if (pushed) stack.push_back(*pushed);
  TableReader reader(expression, 0);
  while (!reader.at_end()) {
    const std::uint8_t byte = reader.Byte();
    const auto op = static_cast<Op>(byte);
    if (stack.size() == kDeepest) return std::nullopt;
    if (byte >= kLiteral && byte < kLiteral + kFamily) {
      stack.push_back(byte - kLiteral);
    } else if (byte >= kBaseRegister && byte < kBaseRegister + kRegisters) {
      stack.push_back(registers[byte - kBaseRegister] + static_cast<std::uint64_t>(reader.Signed()));
    } else if (const std::optional<std::uint64_t> constant = Constant(op, reader)) {
      stack.push_back(*constant);
    } else if (stack.empty()) {
      return std::nullopt;
    } else if (op == Op::kDereference) {
      if (!read(stack.back(), std::as_writable_bytes(std::span(&stack.back(), 1)))) return std::nullopt;
    } else if (op == Op::kPlusConstant) {
      stack.back() += reader.Unsigned();
    } else {
      const std::uint64_t right = stack.back();
      stack.pop_back();
      const auto result = stack.empty() ? std::nullopt : Combine(op, stack.back(), right);
      if (!result) return std::nullopt;
      stack.back() = *result;
    }
  }
  if (!reader.ok() || stack.empty()) return std::nullopt;
  return stack.back();
}

}  // namespace dunebox::unwind
