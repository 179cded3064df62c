// Proves that one piece of emitted code obeys docs/isolation.md, for all values of all registers.
// Knows nothing of the translator but the record's format and the Context's offsets: it decodes
// with Zydis, and what it does not understand is a violation.
//
//   for (const Violation& violation : Check(code).violations) Print(violation);
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_CHECKER_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_CHECKER_H_

#include <cstdint>
#include <vector>

#include "tests/security/checker/code.h"

namespace dunebox::checker {

struct Checked {
  std::vector<Violation> violations;
  std::uint64_t instructions = 0;  // that were looked at
};

Checked Check(const Code& code);

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_CHECKER_H_
