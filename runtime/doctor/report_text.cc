#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "runtime/doctor/report.h"

namespace dunebox::doctor {
namespace {

constexpr std::size_t kLineWidth = 96;
constexpr std::size_t kStateWidth = 9;
constexpr std::string_view kArrow = "-> ";

std::string_view StateWord(State state) {
  switch (state) {
    case State::kOk:
      return "ok";
    case State::kWarning:
      return "warning";
    case State::kMissing:
      return "missing";
  }
  return "";
}

// Appends `words` to a line that already reaches column `indent`, breaking between words; later
// lines start at that column, too.
void AppendWrapped(std::string& text, std::string_view words, std::size_t indent) {
  std::size_t column = indent;
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(word.size() + 1, words.size()));
    if (column > indent && column + 1 + word.size() > kLineWidth) {
      text += fmt::format("\n{:{}}", "", indent);
      column = indent;
    } else if (column > indent) {
      text += ' ';
      ++column;
    }
    text += word;
    column += word.size();
  }
  text += '\n';
}

}  // namespace

std::string FormatText(const Report& report) {
  std::size_t name_width = 0;
  for (const Check& check : report.checks) name_width = std::max(name_width, check.name.size());
  const std::size_t indent = kStateWidth + name_width + 2;

  std::string text;
  for (const Check& check : report.checks) {
    text += fmt::format("{:<{}}{:<{}}", StateWord(check.state), kStateWidth, check.name,
                        name_width + 2);
    AppendWrapped(text, check.found, indent);
    if (check.advice.empty()) continue;
    text += fmt::format("{:{}}{}", "", indent, kArrow);
    AppendWrapped(text, check.advice, indent + kArrow.size());
  }
  text += report.engine.usable()
              ? fmt::format("\n--engine=auto takes {}: {}.\n", report.engine.engine,
                            report.engine.reason)
              : fmt::format("\nNo engine can run programs here: {}.\n", report.engine.reason);
  return text;
}

}  // namespace dunebox::doctor
