// Whether an instruction's memory operands, the implicit ones included, are among those that the
// isolation allows.
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_OPERANDS_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_OPERANDS_H_

#include <string>

#include "tests/security/checker/instruction.h"
#include "tests/security/checker/state.h"

namespace dunebox::checker {

struct Complaint {
  std::string_view rule;
  std::string detail;
};

// Operands through the context segment, whatever the registers hold. Not of jumps.
std::optional<Complaint> CheckSlots(const Instruction& instruction, Isolation isolation);
// All others. `state` is in front of the instruction.
std::optional<Complaint> CheckOperands(const Instruction& instruction, const State& state,
                                       Isolation isolation);

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_OPERANDS_H_
