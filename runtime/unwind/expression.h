// The value of an expression in a call-frame table, as compilers write them for entries of a PLT and for the frames
// of signal handlers. [DWARF 4 §2.5] Operations that they do not use there are refused.
//
//   Evaluate(rule.expression, frame.registers, read, {cfa});   // the stack begins with the CFA
#ifndef DUNEBOX_RUNTIME_UNWIND_EXPRESSION_H_
#define DUNEBOX_RUNTIME_UNWIND_EXPRESSION_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "runtime/unwind/frame_rules.h"

namespace dunebox::unwind {

using Registers = std::array<std::uint64_t, kRegisters>;

std::optional<std::uint64_t> Evaluate(std::span<const std::byte> expression, const Registers& registers,
                                      ReadMemory read, std::optional<std::uint64_t> pushed);

}  // namespace dunebox::unwind

#endif  // DUNEBOX_RUNTIME_UNWIND_EXPRESSION_H_
