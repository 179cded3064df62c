// From argv to a typed command.
//
// Owns the grammar of the command line: which words are ours, and where those of the program
// begin. Everything from PROG on is handed over byte for byte; whatever is not in the option
// table is refused with one line that says where to look.
//
//   Command command = ParseCommandLine({{"run", "--engine=kvm", "ls", "-l"}});
//   std::get<RunCommand>(command).session.arguments   // {"ls", "-l"}
#ifndef DUNEBOX_SANDBOX_CLI_OPTIONS_H_
#define DUNEBOX_SANDBOX_CLI_OPTIONS_H_

#include <string>
#include <variant>
#include <vector>

#include "hostcalls/errors/id.h"
#include "runtime/doctor/doctor.h"
#include "runtime/session.h"
#include "sandbox/bench/bench.h"
#include "sandbox/oci/commands.h"
#include "sandbox/policy/policy.h"

namespace dunebox::cli {

struct RunCommand {
  runtime::SessionOptions session;  // what a policy decides is not in it yet
  policy::Policy policy;            // as stated
  std::string metrics_file;         // for a collector, written at the end; empty: none
};

// A run whose statistics are added up; session.statistics_file is where they go.
struct StatCommand {
  RunCommand run;
  bool as_json = false;
};

// A run whose code is translated for later ones, into session.prepared; the program may be missing.
struct PrepareCommand {
  RunCommand run;
};

enum class ExplainFormat : unsigned char { kText, kOciSeccomp };

// The same words as RunCommand; the program may be missing.
struct ExplainCommand {
  RunCommand run;
  ExplainFormat format = ExplainFormat::kText;
};

struct LearnCommand {
  RunCommand run;      // the program may be missing
  std::string output;  // where the proposal goes; empty: standard output
  std::string log;     // earlier records, which this run's are appended to; empty: none
};

struct CheckCommand {
  std::vector<std::string> files;  // one at least
};

struct DoctorCommand {
  doctor::ReportFormat format = doctor::ReportFormat::kText;
};

// What was left unsaid is as the structure has it.
using BenchCommand = bench::BenchOptions;

// --help, --version, completion: the text goes to stdout and the exit status is 0.
struct PrintText {
  std::string text;
};

// One line without "dunebox: ", its id and "\n", for stderr; the exit status is 125.
struct UsageError {
  errors::Id id;
  std::string message;
};

using Command =
    std::variant<RunCommand, StatCommand, PrepareCommand, ExplainCommand, LearnCommand, CheckCommand, DoctorCommand,
                 BenchCommand, oci::Command, PrintText, UsageError>;

// `arguments` is argv without argv[0]. Reads what --args names.
Command ParseCommandLine(const std::vector<std::string>& arguments);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_OPTIONS_H_
