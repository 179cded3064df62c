#include "runtime/loader/script.h"

#include <algorithm>

namespace dunebox::loader {
namespace {

constexpr std::string_view kBlanks = " \t";

std::string_view SkipBlanks(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text;
}

std::string_view TrimBlanks(std::string_view text) {
  const std::size_t last = text.find_last_not_of(kBlanks);
  return SkipBlanks(text.substr(0, last == text.npos ? 0 : last + 1));
}

ScriptLine SplitLine(std::string_view text) {
  const std::size_t separator = text.find_first_of(kBlanks);
  ScriptLine line{.interpreter = std::string(text.substr(0, separator)), .argument = {}};
  if (separator != text.npos) line.argument = std::string(SkipBlanks(text.substr(separator)));
  return line;
}

absl::StatusOr<ScriptLine> SplitTrimmedLine(std::string_view text) {
  const std::string_view trimmed = TrimBlanks(text);
  if (trimmed.empty()) return absl::FailedPreconditionError("the #! line names no interpreter");
  return SplitLine(trimmed);
}

// A line ended by a NUL or the file's end keeps its trailing blanks.
absl::StatusOr<ScriptLine> SplitNulLine(std::string_view text) {
  const std::string_view line = SkipBlanks(text);
  if (line.empty())
    return absl::PermissionDeniedError("the #! line's interpreter is an empty path");
  return SplitLine(line);
}

// The line fills the buffer. Its last byte gives way to a NUL, and only shows whether the
// interpreter's path had ended before.
absl::StatusOr<ScriptLine> SplitCutLine(std::string_view text) {
  if (SkipBlanks(text).find_first_of(std::string_view(" \t\0", 3)) == text.npos) {
    return absl::FailedPreconditionError(
        "the #! line's interpreter path does not end within the file's first 256 bytes");
  }
  return SplitTrimmedLine(text.substr(0, text.size() - 1));
}

}  // namespace

bool IsScript(std::string_view head) { return head.starts_with("#!"); }

absl::StatusOr<ScriptLine> ParseScriptLine(std::string_view head) {
  if (!IsScript(head)) return absl::FailedPreconditionError("not a script");
  std::string buffer(head.substr(0, kProgramHeadSize));
  buffer.resize(kProgramHeadSize, '\0');  // Linux reads short files into a zeroed buffer.

  const std::size_t stop = buffer.find_first_of(std::string_view("\n\0", 2));
  const std::string_view line = std::string_view(buffer).substr(0, stop).substr(2);
  if (stop != buffer.npos && buffer[stop] == '\n') return SplitTrimmedLine(line);
  if (stop < kProgramHeadSize - 1) return SplitNulLine(line);
  return SplitCutLine(std::string_view(buffer).substr(2));
}

}  // namespace dunebox::loader
