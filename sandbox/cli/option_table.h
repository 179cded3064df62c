// The commands of `dunebox` and their options, as data.
//
// The parser, --help and the shell completions all read this one table, so an option cannot be
// accepted and undocumented, or documented and unknown. It refuses nothing by itself.
//
//   for (const OptionRow& option : FindCommand("run")->options) Print(option.name);
#ifndef DUNEBOX_SANDBOX_CLI_OPTION_TABLE_H_
#define DUNEBOX_SANDBOX_CLI_OPTION_TABLE_H_

#include <span>
#include <string_view>

namespace dunebox::cli {

// What an option means; options.cc has one case for each, found by the compiler when missing.
enum class OptionId : unsigned char {
  kPolicy,  // a setting of the policy, found by the option's name
  kPolicyFile,
  kArgs,
  kRing,
  kPostedWrites,
  kTrace,
  kTraceFile,
  kStats,
  kStatsFile,
  kMetricsFile,
  kJitPerfMap,
  kJitPerfDump,
  kJitCache,
  kJitDump,
  kJitRecord,
  kJitPrepared,
  kGdb,
  kBacktrace,
  kCoreFile,
  kJsonStatusFd,
  kDryRun,
  kExplainFormat,
  kLearnOutput,
  kLearnLog,
  kBenchEngine,
  kRepeat,
  kJson,
  kOci,  // a setting of the commands for container engines, found by the option's name
  kHelp,
};

struct OptionRow {
  OptionId id;
  std::string_view name;                       // "--engine"
  std::span<const std::string_view> values{};  // what it takes, when that is one of a few words
  std::string_view value_name{};     // "ADDR": it takes another word; options.cc checks it
  // What --option alone means; it never takes the next word then, only "--option=value".
  std::string_view bare_value{};
  std::string_view default_value{};  // shown by --help when not empty
  std::string_view help{};           // one line, no full stop
  bool is_repeatable = false;        // each counts; of others the last one does
  int word_count = 1;                // how many words the value is

  bool is_flag() const { return values.empty() && value_name.empty(); }
};

// What stands behind a command's options.
enum class Operands : unsigned char {
  kNone,
  kProgram,  // a program and everything that belongs to it
  kFiles,
  kShell,    // the name of a shell
  kMessage,  // the id of a message
  kContainer,  // its id
};

struct CommandRow {
  std::string_view name;      // "run", "policy check"
  std::string_view synopsis;  // what follows the name in the usage line
  std::string_view summary;   // one line, no full stop
  std::string_view details;   // paragraphs below the options of --help, wrapped, "\n" at the end
  std::span<const OptionRow> options;
  Operands operands = Operands::kNone;
};

std::span<const CommandRow> Commands();

// Null when there is no such command or option. "-h" is found as --help.
const CommandRow* FindCommand(std::string_view name);
// Do commands of two words begin with this one?
bool IsGroupOfCommands(std::string_view word);
const OptionRow* FindOption(const CommandRow& command, std::string_view name);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_OPTION_TABLE_H_
