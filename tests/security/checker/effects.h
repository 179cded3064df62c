// What an instruction makes of what is known of the registers.
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_EFFECTS_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_EFFECTS_H_

#include "tests/security/checker/instruction.h"
#include "tests/security/checker/state.h"

namespace dunebox::checker {

// The state behind the instruction. Its operands have been found to be right.
State StateBehind(const Instruction& instruction, const State& state, Isolation isolation);

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_EFFECTS_H_
