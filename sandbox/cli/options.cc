// This file is compiled with exceptions: the command-line library reports errors by throwing.
// None leaves ParseOptions().
#include "sandbox/cli/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "hostcalls/errors/catalogue.h"
#include "hostcalls/errors/message.h"
#include "runtime/limits/session_limits.h"
#include "sandbox/cli/argument_list.h"
#include "sandbox/cli/completion.h"
#include "sandbox/cli/help.h"
#include "sandbox/cli/oci_options.h"
#include "sandbox/cli/option_table.h"
#include "sandbox/policy/policy_file.h"
#include "sandbox/policy/quoted.h"
#include "sandbox/policy/settings.h"

namespace dunebox::cli {
namespace {

using errors::Id;
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
  LearnCommand learn;  // but for `run`
  bench::BenchOptions bench;
  bool json = false;
  oci::Command oci;
  ExplainFormat format = ExplainFormat::kText;
};

UsageError Usage(Id id, const CommandRow& command, std::string_view message) {
  return {id, fmt::format("{}; see 'dunebox {} --help'", message, command.name)};
}

bool LooksLikeOption(std::string_view word) { return word.size() > 1 && word.front() == '-'; }

std::string_view NameOf(std::string_view word) { return word.substr(0, word.find('=')); }

// How many words the option takes that starts at the first of `words`; 0 and a message when it is
// unknown or not written as it must be.
struct OptionWords {
  std::size_t count = 0;
  std::string error{};
  Id id = Id::kBadValue;
};

OptionWords MeasureOption(const CommandRow& command, Words words) {
  const std::string_view word = words.front();
  const std::string_view name = NameOf(word);
  const OptionRow* option = FindOption(command, name);
  if (option == nullptr) {
    return {.error = fmt::format("unknown option '{}'", name), .id = Id::kUnknownOption};
  }
  const bool has_equals_sign = name.size() < word.size();
  if (has_equals_sign && (option->word_count > 1 || !name.starts_with("--"))) {
    return {.error = fmt::format("option '{}' takes the next words: {}", name, option->value_name)};
  }
  if (option->is_flag()) {
    if (!has_equals_sign) return {.count = 1};
    return {.error = fmt::format("option '{}' takes no value", name)};
  }
  if (!option->bare_value.empty() && !has_equals_sign) return {.count = 1};
  const std::size_t count = has_equals_sign ? 1 : 1 + static_cast<std::size_t>(option->word_count);
  const bool value_is_there =
      has_equals_sign ? name.size() + 1 < word.size() : words.size() >= count;
  if (value_is_there) return {.count = count};
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
    if (option.count == 0) return Usage(option.id, command, option.error);
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

std::optional<unsigned> MebibytesFrom(std::string_view value) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool whole = error == std::errc() && end == value.data() + value.size();
  const bool in_range = number >= runtime::kLeastJitCache && number <= runtime::kMostJitCache;
  return whole && in_range ? std::optional(number) : std::nullopt;
}

// 0, 1 and 2 are the program's.
constexpr runtime::LimitRange<std::uint64_t> kOurDescriptors{3, 1 << 20};

std::optional<int> DescriptorFrom(std::string_view value) {
  const std::optional<std::uint64_t> number = runtime::ParseCount(value);
  if (!number || !kOurDescriptors.Contains(*number)) return std::nullopt;
  return static_cast<int>(*number);
}

std::optional<int> RepeatsFrom(std::string_view value) {
  const std::optional<std::uint64_t> number = runtime::ParseCount(value);
  if (!number || *number < 1 || *number > bench::kMostRepeats) return std::nullopt;
  return static_cast<int>(*number);
}

// Of a setting of the policy: the words of its option are where its rules come from.
std::string SetPolicy(const OptionRow& row, Words words, policy::Policy& policy) {
  const policy::SettingRow* const setting = policy::FindSettingOfFlag(row.name);
  const std::string origin =
      words.empty() ? std::string(row.name) : fmt::format("{} {}", row.name, fmt::join(words, " "));
  const std::string yes(policy::kTrue);
  const absl::Status status =
      policy::Set(policy, setting->id, words.empty() ? Words(&yes, 1) : words, origin);
  return status.ok() ? "" : fmt::format("{}: {}", row.name, std::string(status.message()));
}

// Why a free value is not one; empty when it is.
std::string CheckFreeValue(OptionId id, const std::string& value) {
  if (id == OptionId::kJitDump && !runtime::CodePlace::Parse(value)) {
    return fmt::format("'{}' is neither a hexadecimal address nor FILE+0xOFFSET", value);
  }
  if ((id == OptionId::kTraceFile || id == OptionId::kStatsFile ||
       id == OptionId::kMetricsFile || id == OptionId::kCoreFile) &&
      value.empty()) {
    return "'' is not a file";
  }
  if (id == OptionId::kGdb && !debugger::ListenAddress::Parse(value)) {
    return fmt::format("'{}' is neither a port nor unix:PATH", value);
  }
  const bool is_file = id == OptionId::kPolicyFile || id == OptionId::kLearnOutput ||
                       id == OptionId::kLearnLog;
  if (is_file && value.empty()) return "'' is not a file";
  if (id == OptionId::kOci && value.empty()) return "the value is empty";
  if ((id == OptionId::kJitRecord || id == OptionId::kJitPerfDump || id == OptionId::kJitPrepared) && value.empty()) {
    return "'' is not a directory";
  }
  if (id == OptionId::kJitCache && !MebibytesFrom(value)) {
    return fmt::format("'{}' is not a number from {} to {}", value, runtime::kLeastJitCache,
                       runtime::kMostJitCache);
  }
  if (id == OptionId::kRepeat && !RepeatsFrom(value)) {
    return fmt::format("'{}' is not a number from 1 to {}", value, bench::kMostRepeats);
  }
  if ((id == OptionId::kJsonStatusFd || id == OptionId::kArgs) && !DescriptorFrom(value)) {
    return fmt::format("'{}' is not a number from {} to {}", value, kOurDescriptors.least,
                       kOurDescriptors.most);
  }
  return {};
}

// `words` with what the descriptors of --args hold in place of each --args of ours; there may be
// more of them in it.
std::variant<std::vector<std::string>, UsageError> ReplaceArgs(const CommandRow& command,
                                                               Words given) {
  std::vector<std::string> words(given.begin(), given.end());
  std::size_t index = 0;
  while (index < words.size() && LooksLikeOption(words[index]) && words[index] != "--") {
    const Words rest = Words(words).subspan(index);
    const OptionWords option = MeasureOption(command, rest);
    if (option.count == 0) return Usage(option.id, command, option.error);
    if (FindOption(command, NameOf(rest.front()))->id != OptionId::kArgs) {
      index += option.count;
      continue;
    }
    const std::string value = option.count == 2 ? rest[1] : rest[0].substr(rest[0].find('=') + 1);
    if (std::string error = CheckFreeValue(OptionId::kArgs, value); !error.empty()) {
      return Usage(Id::kBadValue, command, fmt::format("--args: {}", error));
    }
    absl::StatusOr<std::vector<std::string>> more = ReadArguments(*DescriptorFrom(value));
    if (!more.ok()) {
      return Usage(Id::kBadArguments, command,
                   fmt::format("--args: {}", std::string(more.status().message())));
    }
    const auto place = words.begin() + static_cast<std::ptrdiff_t>(index);
    words.erase(place, place + static_cast<std::ptrdiff_t>(option.count));
    words.insert(words.begin() + static_cast<std::ptrdiff_t>(index), more->begin(), more->end());
  }
  return words;
}

// `words` have been checked but for those of the policy; none for a flag. Why not; empty when done.
std::string Apply(const OptionRow& row, Words words, Settings& settings) {  // NOLINT(readability-function-size): a row each
  runtime::SessionOptions& session = settings.run.session;
  const std::string value = words.empty() ? "" : words.front();
  switch (row.id) {
    case OptionId::kPolicy:
      return SetPolicy(row, words, settings.run.policy);
    case OptionId::kPolicyFile:  // has been read: other options come on top of all files
    case OptionId::kArgs:        // has been replaced
      break;
    case OptionId::kRing:
      session.ring = value == "0" ? 0 : 3;
      break;
    case OptionId::kPostedWrites:
      session.posted_writes = true;
      break;
    case OptionId::kTrace:
      session.trace = TraceFormatFrom(value);
      break;
    case OptionId::kTraceFile:
      session.trace_file = value;
      break;
    case OptionId::kStats:
      session.diagnostics.statistics = true;
      session.diagnostics.statistics_format =
          value == "json" ? runtime::StatisticsFormat::kJson : runtime::StatisticsFormat::kText;
      break;
    case OptionId::kStatsFile:
      session.statistics_file = value;
      break;
    case OptionId::kMetricsFile:
      settings.run.metrics_file = value;
      break;
    case OptionId::kCoreFile:
      session.core_file = value;
      break;
    case OptionId::kBacktrace:
      session.diagnostics.backtrace = true;
      break;
    case OptionId::kGdb:
      session.gdb = debugger::ListenAddress::Parse(value);
      break;
    case OptionId::kJitPerfMap:
      session.diagnostics.perf_map = true;
      break;
    case OptionId::kJitPerfDump:
      session.diagnostics.perf_dump = value;
      break;
    case OptionId::kJitCache:
      session.jit_cache = MebibytesFrom(value).value_or(runtime::kDefaultJitCache);
      break;
    case OptionId::kJitDump:
      session.diagnostics.dump = value;
      break;
    case OptionId::kJitRecord:
      session.diagnostics.record = value;
      break;
    case OptionId::kJitPrepared:
      session.prepared = value;
      break;
    case OptionId::kJsonStatusFd:
      session.status_fd = DescriptorFrom(value).value_or(-1);
      break;
    case OptionId::kExplainFormat:
      settings.format = value == "text" ? ExplainFormat::kText : ExplainFormat::kOciSeccomp;
      break;
    case OptionId::kLearnOutput:
      settings.learn.output = value;
      break;
    case OptionId::kLearnLog:
      settings.learn.log = value;
      break;
    case OptionId::kDryRun:
      session.dry_run = true;
      break;
    case OptionId::kBenchEngine:
      settings.bench.engines.push_back(value);
      break;
    case OptionId::kRepeat:
      settings.bench.repeat = RepeatsFrom(value).value_or(settings.bench.repeat);
      break;
    case OptionId::kJson:
      settings.json = true;
      break;
    case OptionId::kOci:
      return SetOciOption(row.name, value, settings.oci);
    case OptionId::kHelp:
      break;
  }
  return {};
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
        ->type_size(row.word_count)
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

// The library takes longer to be told of an option than to read one: it is told of those that it will meet.
bool IsGiven(const OptionRow& row, Words words) {
  return std::ranges::any_of(words, [&](const std::string& word) { return NameOf(word) == row.name; });
}

// Parses our words into `settings`; nothing on success.
std::optional<UsageError> ParseOptions(const CommandRow& command, Words words, Settings& settings) {
  CLI::App parser;
  parser.set_help_flag();  // --help is a row of the table like any other
  try {
    // Each option with how many of its words have been read. An option of two words stands twice in
    // the library's order, in a row.
    std::map<const CLI::Option*, std::pair<const OptionRow*, std::size_t>> options;
    for (const OptionRow& row : command.options) {
      if (IsGiven(row, words)) options[Register(parser, row)] = {&row, 0};
    }
    parser.parse(LibraryWords(command, words));
    for (const auto& [option, row] : options) {
      if (row.first->id != OptionId::kPolicyFile) continue;
      for (const std::string& file : option->results()) {
        const absl::Status status = policy::AddPolicyFile(settings.run.policy, file);
        if (!status.ok()) {
          return UsageError{errors::NameOf(status, Id::kPolicyFile), std::string(status.message())};
        }
      }
    }
    for (const CLI::Option* option : parser.parse_order()) {
      auto& [row, read] = options[option];
      const std::vector<std::string>& all = option->results();
      const auto count = static_cast<std::size_t>(row->word_count);
      if (++read % count != 0) continue;
      const Words own = row->is_flag() ? Words() : Words(all).subspan(read - count, count);
      if (std::string error = Apply(*row, own, settings); !error.empty()) {
        return Usage(row->id == OptionId::kPolicy ? Id::kBadRule : Id::kBadValue, command, error);
      }
    }
  } catch (const CLI::Error& error) {
    return Usage(Id::kBadValue, command, error.what());
  }
  return std::nullopt;
}

void TakeProgram(Words program, RunCommand& run) {
  if (program.empty()) return;
  run.session.program = program.front();
  run.session.arguments.assign(program.begin(), program.end());
}

Command FinishRun(const CommandRow& command, Words program, Settings&& settings) {
  if (program.empty()) return Usage(Id::kBadOperands, command, "no program given");
  TakeProgram(program, settings.run);
  return std::move(settings.run);
}

Command FinishStat(const CommandRow& command, Words program, Settings&& settings) {
  if (program.empty()) return Usage(Id::kBadOperands, command, "no program given");
  TakeProgram(program, settings.run);
  return StatCommand{std::move(settings.run), settings.json};
}

Command FinishPrepare(const CommandRow&, Words program, Settings&& settings) {
  TakeProgram(program, settings.run);
  return PrepareCommand{std::move(settings.run)};
}

Command FinishExplain(const CommandRow&, Words program, Settings&& settings) {
  TakeProgram(program, settings.run);
  return ExplainCommand{std::move(settings.run), settings.format};
}

Command FinishLearn(const CommandRow& command, Words program, Settings&& settings) {
  if (program.empty() && settings.learn.log.empty()) return Usage(Id::kBadOperands, command, "no program given");
  TakeProgram(program, settings.run);
  settings.learn.run = std::move(settings.run);
  return std::move(settings.learn);
}

Command FinishCheck(const CommandRow& command, Words rest, Settings&&) {
  if (rest.empty()) return Usage(Id::kBadOperands, command, "no file given");
  return CheckCommand{{rest.begin(), rest.end()}};
}

Command FinishDoctor(const CommandRow& command, Words rest, Settings&& settings) {
  if (!rest.empty()) return Usage(Id::kBadOperands, command, fmt::format("unexpected argument '{}'", rest.front()));
  return DoctorCommand{settings.json ? doctor::ReportFormat::kJson : doctor::ReportFormat::kText};
}

Command FinishBench(const CommandRow&, Words program, Settings&& settings) {
  settings.bench.program.assign(program.begin(), program.end());
  settings.bench.as_json = settings.json;
  return std::move(settings.bench);
}

Command FinishCompletion(const CommandRow& command, Words rest, Settings&&) {
  if (rest.size() == 1 && std::ranges::find(Shells(), rest.front()) != Shells().end()) {
    return PrintText{CompletionScript(rest.front())};
  }
  return Usage(Id::kBadOperands, command, fmt::format("name one shell: {}", fmt::join(Shells(), ", ")));
}

Command FinishExplainMessage(const CommandRow& command, Words rest, Settings&&) {
  if (rest.empty()) return PrintText{errors::ListOfAll()};
  if (rest.size() > 1) {
    return Usage(Id::kBadOperands, command, fmt::format("unexpected argument '{}'", rest[1]));
  }
  const errors::Row* const row = errors::FindRow(rest.front());
  if (row != nullptr) return PrintText{errors::ExplanationOf(*row)};
  return UsageError{Id::kUnknownId, fmt::format("no message has the id '{}'; 'dunebox explain' lists all",
                                                policy::Escaped(rest.front()))};
}

Command FinishOci(const CommandRow& command, Words rest, Settings&& settings) {
  std::string error = SetOciOperands(command.name, rest, settings.oci);
  if (!error.empty()) return Usage(Id::kBadOperands, command, error);
  return std::move(settings.oci);
}

// What a command makes of its words.
struct FinishRow {
  std::string_view command;
  Command (*finish)(const CommandRow&, Words, Settings&&);
};

constexpr FinishRow kFinishes[] = {
    {"run", FinishRun},
    {"stat", FinishStat},
    {"prepare", FinishPrepare},
    {"policy explain", FinishExplain},
    {"policy check", FinishCheck},
    {"policy learn", FinishLearn},
    {"explain", FinishExplainMessage},
    {"doctor", FinishDoctor},
    {"bench", FinishBench},
    {"completion", FinishCompletion},
    {"oci create", FinishOci},
    {"oci start", FinishOci},
    {"oci state", FinishOci},
    {"oci kill", FinishOci},
    {"oci delete", FinishOci},
    {"oci run", FinishOci},
    {"oci list", FinishOci},
    {"oci features", FinishOci},
};

bool AsksForHelp(Words words) {
  return std::ranges::any_of(
      words, [](const std::string& word) { return word == "--help" || word == "-h"; });
}

Command ParseCommand(const CommandRow& command, Words given) {
  const auto replaced = ReplaceArgs(command, given);
  if (const auto* error = std::get_if<UsageError>(&replaced)) return *error;
  const auto split = Split(command, std::get<std::vector<std::string>>(replaced));
  if (const auto* error = std::get_if<UsageError>(&split)) return *error;
  const auto& [ours, programs] = std::get<SplitWords>(split);
  if (AsksForHelp(ours)) return PrintText{CommandHelp(command)};
  Settings settings;
  if (auto error = ParseOptions(command, ours, settings)) return *std::move(error);
  const auto* const row = std::ranges::find(kFinishes, command.name, &FinishRow::command);
  return row->finish(command, programs, std::move(settings));
}

// Engines put the options of every command in front of the command: `oci --root DIR create ...`.
Command ParseOci(Words words) {
  const CommandRow& shared = *FindCommand("oci state");
  std::size_t index = 0;
  while (index < words.size() && LooksLikeOption(words[index])) {
    if (words[index] == "--version") return PrintText{OciVersionText()};
    if (AsksForHelp(words.subspan(index, 1))) return PrintText{TopLevelHelp()};
    const OptionWords option = MeasureOption(shared, words.subspan(index));
    if (option.count == 0) {
      return UsageError{option.id, fmt::format("oci: {}; see 'dunebox --help'", option.error)};
    }
    index += option.count;
  }
  if (index >= words.size()) {
    return UsageError{Id::kUnknownCommand, "no command of oci given; see 'dunebox --help'"};
  }
  const std::string name = "oci " + words[index];
  const CommandRow* const command = FindCommand(name);
  if (command == nullptr) {
    return UsageError{Id::kUnknownCommand,
                      fmt::format("unknown command '{}'; see 'dunebox --help'", name)};
  }
  std::vector<std::string> given(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(index));
  const Words behind = words.subspan(index + 1);
  given.insert(given.end(), behind.begin(), behind.end());
  return ParseCommand(*command, given);
}

}  // namespace

Command ParseCommandLine(const std::vector<std::string>& arguments) {
  constexpr std::string_view kSee = "see 'dunebox --help'";
  if (arguments.empty()) {
    return UsageError{Id::kUnknownCommand, fmt::format("no command given; {}", kSee)};
  }
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h") return PrintText{TopLevelHelp()};
  if (first == "--version") return PrintText{VersionText()};
  if (first == "oci") return ParseOci(Words(arguments).subspan(1));
  std::string name = first;
  std::size_t words = 1;
  if (IsGroupOfCommands(first) && arguments.size() > 1) {
    name += " " + arguments[1];
    words = 2;
  }
  if (const CommandRow* command = FindCommand(name)) {
    return ParseCommand(*command, Words(arguments).subspan(words));
  }
  if (LooksLikeOption(first)) {
    return UsageError{Id::kUnknownOption, fmt::format("unknown option '{}'; {}", name, kSee)};
  }
  return UsageError{Id::kUnknownCommand, fmt::format("unknown command '{}'; {}", name, kSee)};
}

}  // namespace dunebox::cli
