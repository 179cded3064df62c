// Reads the files of --jit-record.
//
//   Reader reader(file_contents);
//   while (auto code = reader.Next()) Check(*code);
//   if (!reader.error().empty()) ...
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_READER_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_READER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "tests/security/checker/code.h"

namespace dunebox::checker {

class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  // Nothing at the end, and where the file is not what it should be.
  std::optional<Code> Next();
  const std::string& error() const { return error_; }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
  std::string error_;
};

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_READER_H_
