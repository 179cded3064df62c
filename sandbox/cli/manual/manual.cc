// Fills in a template of a manual page what the program knows better: a line @SYNOPSIS@, @COMMANDS@ or @KEYS@ is replaced
// by what the tables of options and settings say, in the language of scdoc(5).
//
//   dunebox_manual docs/man/dunebox.1.scd | scdoc > dunebox.1
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

#include "absl/strings/str_split.h"
#include "sandbox/cli/option_table.h"
#include "sandbox/policy/settings.h"

namespace dunebox::cli {
namespace {

// Without what scdoc would take for markup.
std::string Plain(std::string_view text) {
  std::string plain;
  for (const char letter : text) {
    if (std::string_view("\\*_[]#<>@~`").find(letter) != std::string_view::npos) plain += '\\';
    plain += letter;
  }
  return plain;
}

// Of --help: lines that begin with two blanks are an example, and stay lines.
std::string Paragraphs(std::string_view details) {
  std::string text;
  bool was_example = false;
  for (const absl::string_view line : absl::StrSplit(std::string(details), '\n')) {
    const std::string plain = Plain({line.data(), line.size()});
    const bool is_example = plain.starts_with("  ");
    text += was_example && is_example ? "++\n" : "\n";
    if (is_example) {
      text += was_example ? plain.substr(2) : fmt::format("\t{}", plain.substr(2));
    } else {
      text += plain.starts_with('-') ? fmt::format("\\{}", plain) : plain;
    }
    was_example = is_example;
  }
  return text;
}

std::string Usage(const OptionRow& option) {
  std::string text(option.name);
  if (!option.values.empty()) {
    const std::string values = fmt::format("={}", fmt::join(option.values, "|"));
    text += option.bare_value.empty() ? values : fmt::format("[{}]", values);
  }
  if (option.value_name.empty()) return text;
  const bool is_next_word = option.word_count > 1 || !option.name.starts_with("--");
  return fmt::format("{}{}{}", text, is_next_word ? " " : "=", option.value_name);
}

std::string Synopsis() {
  std::string text;
  for (const CommandRow& command : Commands()) {
    text += fmt::format("*dunebox {}* {}\n\n", command.name, Plain(command.synopsis));
  }
  return text;
}

std::string CommandSections() {
  std::string text;
  for (const CommandRow& command : Commands()) {
    text += fmt::format("## dunebox {}\n\n{}.\n\n", command.name, Plain(command.summary));
    // Those that take the options of a run add few, and the page is long enough.
    const bool is_like_run = command.options.size() >= FindCommand("run")->options.size() && command.name != "run";
    if (!is_like_run) {
      for (const OptionRow& option : command.options) {
        text += fmt::format("*{}*\n\t{}", Plain(Usage(option)), Plain(option.help));
        if (!option.default_value.empty()) text += fmt::format(" (default: {})", option.default_value);
        text += ".\n\n";
      }
    }
    text += Paragraphs(command.details);
  }
  return text;
}

std::string_view TypeOf(policy::Shape shape) {
  switch (shape) {
    case policy::Shape::kBoolean: return "true or false";
    case policy::Shape::kText: return "string";
    case policy::Shape::kNumber: return "number";
    case policy::Shape::kSize: return "size: number, or string as \"512M\"";
    case policy::Shape::kList: return "list";
    case policy::Shape::kAlias: return "";
  }
  return {};
}

std::string Keys() {
  std::string text;
  for (const policy::SettingRow& setting : policy::Settings()) {
    if (setting.shape == policy::Shape::kAlias) continue;
    const OptionRow* const option = FindOption(*FindCommand("run"), setting.flag);
    text += fmt::format("*{}* ({}), *{}*\n\t{}.\n\n", setting.key, Plain(TypeOf(setting.shape)),
                        Plain(Usage(*option)), Plain(option->help));
  }
  return text;
}

struct PlaceRow {
  std::string_view line;
  std::string (*text)();
};
constexpr PlaceRow kPlaces[] = {
    {"@SYNOPSIS@", Synopsis}, {"@COMMANDS@", CommandSections}, {"@KEYS@", Keys}};

int Fill(const char* file) {
  std::ifstream page(file);
  std::string text;
  for (std::string line; std::getline(page, line);) {
    std::string filled = line + "\n";
    for (const PlaceRow& place : kPlaces) {
      if (line == place.line) filled = place.text();
    }
    text += filled;
  }
  if (text.empty()) {
    std::fprintf(stderr, "dunebox_manual: cannot read %s\n", file);
    return 1;
  }
  return std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace dunebox::cli

int main(int argc, char** argv) {
  if (argc == 2) return dunebox::cli::Fill(argv[1]);
  std::fprintf(stderr, "usage: dunebox_manual TEMPLATE\n");
  return 2;
}
