// The `#!` line of a script, read as Linux reads it: from the first 256 bytes,
// one interpreter and at most one argument, which may contain blanks.
//
// How often a script may name a script, and opening the interpreter, are the
// caller's business.
//
//   if (IsScript(head)) absl::StatusOr<ScriptLine> line = ParseScriptLine(head);
#ifndef DUNEBOX_RUNTIME_LOADER_SCRIPT_H_
#define DUNEBOX_RUNTIME_LOADER_SCRIPT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace dunebox::loader {

// How much of a file decides what kind of program it is. [linux] BINPRM_BUF_SIZE
inline constexpr std::size_t kProgramHeadSize = 256;

struct ScriptLine {
  std::string interpreter;
  // An empty argument is not the same as none: a file that ends in a blank instead of a newline
  // gives the interpreter an empty one.
  std::optional<std::string> argument;
};

bool IsScript(std::string_view head);

// `head` is the file's first 256 bytes, or all of a shorter file; more is ignored. An argument
// that reaches past them is cut, an interpreter path that might is refused.
// kFailedPrecondition: not a script with an interpreter (ENOEXEC).
// kPermissionDenied: a NUL or the file's end comes before any interpreter. Linux takes the empty
// path for the working directory, which is no program (EACCES).
absl::StatusOr<ScriptLine> ParseScriptLine(std::string_view head);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_SCRIPT_H_
