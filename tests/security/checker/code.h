// One piece of emitted code as the record has it, and what is wrong with it.
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_CODE_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_CODE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jit-fallback/cache/code_record.h"

namespace dunebox::checker {

using record::Isolation;

struct Code {
  record::Header header{};
  std::vector<record::Exit> exits;
  std::vector<std::uint8_t> bytes;
};

struct Violation {
  std::uint32_t offset;     // of the instruction, in the code
  std::string_view rule;    // "operand"; README.md lists them
  std::string detail;       // what exactly it does wrong
  std::string instruction;  // disassembled
};

std::string_view NameOf(Isolation isolation);

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_CODE_H_
