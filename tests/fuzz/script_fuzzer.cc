// Feeds arbitrary bytes to the `#!` parser: whatever it returns must be a C
// string that stands in the file's first 256 bytes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "runtime/loader/script.h"

namespace dunebox::loader {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "accepted #! line violates: %s\n", what);
  std::abort();
}

void CheckLine(const ScriptLine& line, std::string_view head) {
  const std::string_view visible = head.substr(0, kProgramHeadSize);
  const std::string_view ends("\n\0", 2);
  Require(visible.starts_with("#!"), "starts with #!");
  Require(!line.interpreter.empty(), "an interpreter");
  Require(line.interpreter.find_first_of(" \t") == std::string::npos, "one word");
  Require(line.interpreter.find_first_of(ends) == std::string::npos, "interpreter on one line");
  Require(visible.find(line.interpreter) != visible.npos, "interpreter comes from the file");
  if (!line.argument.has_value()) return;
  Require(line.argument->find_first_of(ends) == std::string::npos, "argument on one line");
  Require(visible.find(*line.argument) != visible.npos, "argument comes from the file");
  const std::size_t total = line.interpreter.size() + line.argument->size() + 3;
  Require(total < kProgramHeadSize, "room for #!, the blank and the NUL");
}

}  // namespace
}  // namespace dunebox::loader

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view head(reinterpret_cast<const char*>(data), size);
  const auto line = dunebox::loader::ParseScriptLine(head);
  if (line.ok()) dunebox::loader::CheckLine(*line, head);
  return 0;
}
