#include "sandbox/cli/help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace dunebox::cli {
namespace {

// Most usages of the table plus two columns of air.
constexpr std::size_t kOptionColumn = 25;

std::string OptionLine(const OptionRow& option) {
  std::string usage(option.name);
  const std::string values = fmt::format("={}", fmt::join(option.values, "|"));
  if (!option.values.empty()) {
    usage += option.bare_value.empty() ? values : fmt::format("[{}]", values);
  }
  if (!option.value_name.empty()) {
    const std::string name = fmt::format("={}", option.value_name);
    usage += option.bare_value.empty() ? name : fmt::format("[{}]", name);
  }
  // A usage that is too wide has a line of its own.
  if (usage.size() + 2 > kOptionColumn) usage += fmt::format("\n  {:<{}}", "", kOptionColumn);
  std::string line = fmt::format("  {:<{}}{}", usage, kOptionColumn, option.help);
  if (!option.default_value.empty()) line += fmt::format(" (default: {})", option.default_value);
  return line + "\n";
}

}  // namespace

std::string TopLevelHelp() {
  std::string text =
      "Usage: dunebox COMMAND [ARGS...]\n"
      "\n"
      "Runs ordinary Linux programs, unmodified, in a sandbox: in a KVM guest that has no guest\n"
      "operating system, only a small supervisor, or translated where there is no such hardware.\n"
      "\n"
      "Commands:\n";
  for (const CommandRow& command : Commands()) {
    text += fmt::format("  {:<16}{}\n", command.name, command.summary);
  }
  text +=
      "\n"
      "Options:\n"
      "  --help     print this text\n"
      "  --version  print the version\n"
      "\n"
      "'dunebox COMMAND --help' says more about a command.\n"
      "A program may read the system's directories and little else unless options or a policy say\n"
      "more; --allow=all is every right of its caller.\n";
  return text;
}

std::string CommandHelp(const CommandRow& command) {
  std::string text = fmt::format("Usage: dunebox {} {}\n\n{}.\n\nOptions:\n", command.name,
                                 command.synopsis, command.summary);
  for (const OptionRow& option : command.options) text += OptionLine(option);
  return text + fmt::format("\n{}", command.details);
}

std::string VersionText() { return "dunebox " DUNEBOX_VERSION "\n"; }

}  // namespace dunebox::cli
