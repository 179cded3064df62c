// This file is compiled with exceptions: the command-line library reports errors by throwing.
// None leaves ParseOptions().
#include "runtime/main/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "runtime/limits/session_limits.h"
#include "runtime/main/help.h"
#include "runtime/main/option_table.h"

namespace dunebox::cli {
namespace {

using Words = std::span<const std::string>;

// Our words in front, the program's behind; the split is done here and not by the library, which
// would interpret words of the program ("[a,b]", "--", "++") that must arrive as they are.
struct SplitWords {
  Words ours;
  Words programs;
};

// Everything the options of any command can set.
struct Settings {
  RunCommand run;
  DoctorCommand doctor;
};

UsageError Usage(const CommandRow& command, std::string_view message) {
  return {fmt::format("{}; see 'dunebox {} --help'", message, command.name)};
}

bool LooksLikeOption(std::string_view word) { return word.size() > 1 && word.front() == '-'; }

std::string_view NameOf(std::string_view word) { return word.substr(0, word.find('=')); }

// How many words the option takes that starts at the first of `words`; 0 and a message when it is
// unknown or not written as it must be.
struct OptionWords {
  std::size_t count = 0;
  std::string error{};
};

OptionWords MeasureOption(const CommandRow& command, Words words) {
  const std::string_view word = words.front();
  const std::string_view name = NameOf(word);
  const OptionRow* option = FindOption(command, name);
  if (option == nullptr) return {.error = fmt::format("unknown option '{}'", name)};
  const bool has_equals_sign = name.size() < word.size();
  if (option->is_flag()) {
    if (!has_equals_sign) return {.count = 1};
    return {.error = fmt::format("option '{}' takes no value", name)};
  }
  if (!option->bare_value.empty() && !has_equals_sign) return {.count = 1};
  const bool value_is_there = has_equals_sign ? name.size() + 1 < word.size() : words.size() > 1;
  if (value_is_there) return {.count = has_equals_sign ? std::size_t{1} : std::size_t{2}};
  if (!option->value_name.empty()) {
    return {.error = fmt::format("option '{}' needs a value: {}", name, option->value_name)};
  }
  return {.error =
              fmt::format("option '{}' needs a value: {}", name, fmt::join(option->values, ", "))};
}

// Ours end at "--" or at the first word that is neither an option nor an option's value.
std::variant<SplitWords, UsageError> Split(const CommandRow& command, Words words) {
  std::size_t index = 0;
  while (index < words.size() && LooksLikeOption(words[index])) {
    if (words[index] == "--") return SplitWords{words.first(index), words.subspan(index + 1)};
    const OptionWords option = MeasureOption(command, words.subspan(index));
    if (option.count == 0) return Usage(command, option.error);
    index += option.count;
  }
  return SplitWords{words.first(index), words.subspan(index)};
}

// Our words in the order of the library, last first, and with no option that stands without its
// value: the library would take the next word for it.
std::vector<std::string> LibraryWords(const CommandRow& command, Words words) {
  std::vector<std::string> complete;
  while (!words.empty()) {
    const OptionRow* option = FindOption(command, NameOf(words.front()));
    const std::size_t count = MeasureOption(command, words).count;
    complete.insert(complete.begin(), words.rend() - static_cast<std::ptrdiff_t>(count),
                    words.rend());
    if (words.front() == option->name && !option->bare_value.empty()) {
      complete.front() += fmt::format("={}", option->bare_value);
    }
    words = words.subspan(count);
  }
  return complete;
}

runtime::TraceFormat TraceFormatFrom(std::string_view value) {
  if (value == "json") return runtime::TraceFormat::kJson;
  if (value == "chrome") return runtime::TraceFormat::kChrome;
  return runtime::TraceFormat::kText;
}

runtime::EngineChoice EngineFrom(std::string_view value) {
  if (value == "kvm") return runtime::EngineChoice::kKvm;
  if (value == "jit") return runtime::EngineChoice::kJit;
  return runtime::EngineChoice::kAuto;
}

std::optional<unsigned> MebibytesFrom(std::string_view value) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool whole = error == std::errc() && end == value.data() + value.size();
  const bool in_range = number >= runtime::kLeastJitCache && number <= runtime::kMostJitCache;
  return whole && in_range ? std::optional(number) : std::nullopt;
}

template <typename T>
bool IsIn(const runtime::LimitRange<T>& range, const std::optional<T>& value) {
  return value && range.Contains(*value);
}

std::string CheckDuration(const std::string& value) {
  if (IsIn(runtime::kTimeRange, runtime::ParseDuration(value))) return {};
  return fmt::format("'{}' is not a whole number with ms, s, m or h, from 1ms to 8760h", value);
}

std::string CheckSize(const std::string& value, const runtime::LimitRange<std::uint64_t>& range) {
  if (IsIn(range, runtime::ParseSize(value))) return {};
  return fmt::format("'{}' is not a whole number of bytes, or of K, M or G, from {} to {}", value,
                     runtime::FormatSize(range.least), runtime::FormatSize(range.most));
}

std::string CheckCount(const std::string& value, const runtime::LimitRange<std::uint64_t>& range) {
  if (IsIn(range, runtime::ParseCount(value))) return {};
  return fmt::format("'{}' is not a number from {} to {}", value, range.least, range.most);
}

// 0, 1 and 2 are the program's.
constexpr runtime::LimitRange<std::uint64_t> kStatusFdRange{3, 1 << 20};

// Why a limit or a setting of the program's surroundings is not one; empty when it is.
std::string CheckSurroundings(OptionId id, const std::string& value) {
  switch (id) {
    case OptionId::kTime:
    case OptionId::kCpuTime:
      return CheckDuration(value);
    case OptionId::kMemory:
      return CheckSize(value, runtime::kMemoryRange);
    case OptionId::kFsize:
      return CheckSize(value, runtime::kFileSizeRange);
    case OptionId::kPids:
      return CheckCount(value, runtime::kTaskRange);
    case OptionId::kNofile:
      return CheckCount(value, runtime::kOpenFilesRange);
    case OptionId::kJsonStatusFd:
      return CheckCount(value, kStatusFdRange);
    case OptionId::kChdir:
      return value.empty() ? "'' is not a directory" : "";
    case OptionId::kEnv:
      return value.empty() || value.front() == '='
                 ? fmt::format("'{}' has no name of a variable", value)
                 : "";
    default:
      return {};
  }
}

// Why a free value is not one; empty when it is.
std::string CheckFreeValue(OptionId id, const std::string& value) {
  if (id == OptionId::kJitDump && !runtime::CodePlace::Parse(value)) {
    return fmt::format("'{}' is neither a hexadecimal address nor FILE+0xOFFSET", value);
  }
  if ((id == OptionId::kTraceFile || id == OptionId::kStatsFile) && value.empty()) {
    return "'' is not a file";
  }
  if (id == OptionId::kJitRecord && value.empty()) return "'' is not a directory";
  if (id == OptionId::kJitCache && !MebibytesFrom(value)) {
    return fmt::format("'{}' is not a number from {} to {}", value, runtime::kLeastJitCache,
                       runtime::kMostJitCache);
  }
  return CheckSurroundings(id, value);
}

// `value` has been checked; empty for a flag.
void Apply(OptionId id, std::string_view value, Settings& settings) {
  runtime::SessionLimits& limits = settings.run.session.limits;
  switch (id) {
    case OptionId::kEngine:
      settings.run.session.engine = EngineFrom(value);
      return;
    case OptionId::kRing:
      settings.run.session.ring = value == "0" ? 0 : 3;
      return;
    case OptionId::kAllow:
      settings.run.rights = Rights::kAllowAll;
      return;
    case OptionId::kTrace:
      settings.run.session.trace = TraceFormatFrom(value);
      return;
    case OptionId::kTraceFile:
      settings.run.session.trace_file = value;
      return;
    case OptionId::kStats:
      settings.run.session.diagnostics.statistics = true;
      settings.run.session.diagnostics.statistics_format =
          value == "json" ? runtime::StatisticsFormat::kJson : runtime::StatisticsFormat::kText;
      return;
    case OptionId::kStatsFile:
      settings.run.session.statistics_file = value;
      return;
    case OptionId::kJitIsolation:
      settings.run.session.isolation = jit::IsolationNamed(value);  // nothing for auto
      return;
    case OptionId::kJitPerfMap:
      settings.run.session.diagnostics.perf_map = true;
      return;
    case OptionId::kJitCache:
      settings.run.session.jit_cache = MebibytesFrom(value).value_or(runtime::kDefaultJitCache);
      return;
    case OptionId::kJitDump:
      settings.run.session.diagnostics.dump = value;
      return;
    case OptionId::kJitRecord:
      settings.run.session.diagnostics.record = value;
      return;
    case OptionId::kTime:
      limits.wall_time = runtime::ParseDuration(value);
      return;
    case OptionId::kCpuTime:
      limits.cpu_time = runtime::ParseDuration(value);
      return;
    case OptionId::kMemory:
      limits.memory = runtime::ParseSize(value);
      return;
    case OptionId::kPids:
      limits.tasks = runtime::ParseCount(value);
      return;
    case OptionId::kNofile:
      limits.open_files = runtime::ParseCount(value);
      return;
    case OptionId::kFsize:
      limits.file_size = runtime::ParseSize(value);
      return;
    case OptionId::kChdir:
      settings.run.session.directory = value;
      return;
    case OptionId::kEnv:
      settings.run.session.environment.entries.emplace_back(value);
      return;
    case OptionId::kClearEnv:
      settings.run.session.environment.clear = true;
      return;
    case OptionId::kDieWithParent:
      settings.run.session.die_with_parent = true;
      return;
    case OptionId::kJsonStatusFd:
      settings.run.session.status_fd = static_cast<int>(runtime::ParseCount(value).value_or(0));
      return;
    case OptionId::kDryRun:
      settings.run.session.dry_run = true;
      return;
    case OptionId::kJson:
      settings.doctor.format = doctor::ReportFormat::kJson;
      return;
    case OptionId::kHelp:
      return;
  }
}

CLI::Option* Register(CLI::App& parser, const OptionRow& row) {
  const std::string name(row.name);
  if (row.is_flag()) {
    return parser.add_flag(name)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  const auto check_value = [&row](const std::string& value) -> std::string {
    if (row.values.empty()) return CheckFreeValue(row.id, value);
    if (std::ranges::find(row.values, value) != row.values.end()) return {};  // no error
    return fmt::format("'{}' is not one of {}", value, fmt::join(row.values, ", "));
  };
  if (row.is_repeatable) {
    return parser.add_option(name)
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->check(check_value);
  }
  return parser.add_option(name)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->check(check_value);
}

// Parses our words into `settings`; nothing on success.
std::optional<UsageError> ParseOptions(const CommandRow& command, Words words, Settings& settings) {
  CLI::App parser;
  parser.set_help_flag();  // --help is a row of the table like any other
  try {
    std::vector<std::pair<const OptionRow*, CLI::Option*>> options;
    for (const OptionRow& row : command.options) {
      options.emplace_back(&row, Register(parser, row));
    }
    parser.parse(LibraryWords(command, words));
    for (const auto& [row, option] : options) {
      if (option->count() == 0) continue;
      if (row->is_repeatable) {
        for (const std::string& value : option->results()) Apply(row->id, value, settings);
      } else {
        Apply(row->id, row->is_flag() ? "" : option->as<std::string>(), settings);
      }
    }
  } catch (const CLI::Error& error) {
    return Usage(command, error.what());
  }
  return std::nullopt;
}

Command FinishRun(const CommandRow& command, Words program, Settings settings) {
  if (program.empty()) return Usage(command, "no program given");
  settings.run.session.program = program.front();
  settings.run.session.arguments.assign(program.begin(), program.end());
  return std::move(settings.run);
}

Command FinishDoctor(const CommandRow& command, Words rest, const Settings& settings) {
  if (!rest.empty()) return Usage(command, fmt::format("unexpected argument '{}'", rest.front()));
  return settings.doctor;
}

bool AsksForHelp(Words words) {
  return std::ranges::any_of(
      words, [](const std::string& word) { return word == "--help" || word == "-h"; });
}

Command ParseCommand(const CommandRow& command, Words words) {
  const auto split = Split(command, words);
  if (const auto* error = std::get_if<UsageError>(&split)) return *error;
  const auto& [ours, programs] = std::get<SplitWords>(split);
  if (AsksForHelp(ours)) return PrintText{CommandHelp(command)};
  Settings settings;
  if (auto error = ParseOptions(command, ours, settings)) return *std::move(error);
  return command.name == "run" ? FinishRun(command, programs, std::move(settings))
                               : FinishDoctor(command, programs, settings);
}

}  // namespace

Command ParseCommandLine(const std::vector<std::string>& arguments) {
  constexpr std::string_view kSee = "see 'dunebox --help'";
  if (arguments.empty()) return UsageError{fmt::format("no command given; {}", kSee)};
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h") return PrintText{TopLevelHelp()};
  if (first == "--version") return PrintText{VersionText()};
  if (const CommandRow* command = FindCommand(first)) {
    return ParseCommand(*command, Words(arguments).subspan(1));
  }
  return UsageError{fmt::format("unknown {} '{}'; {}",
                                LooksLikeOption(first) ? "option" : "command", first, kSee)};
}

}  // namespace dunebox::cli
