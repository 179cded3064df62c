// The command line: parse, then hand over.
#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "hostcalls/errors/message.h"
#include "runtime/doctor/doctor.h"
#include "runtime/session.h"
#include "sandbox/bench/operations.h"
#include "sandbox/cli/options.h"
#include "sandbox/cli/policy_commands.h"
#include "sandbox/cli/policy_learn.h"
#include "sandbox/cli/prepare.h"
#include "sandbox/cli/stat.h"
#include "sandbox/oci/commands.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/explain.h"
#include "sandbox/policy/oci_seccomp.h"

namespace dunebox::cli {
namespace {

int Print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return 0;
  errors::Say(errors::Id::kCannotPrint,
              absl::ErrnoToStatus(errno, "cannot write to standard output"));
  return runtime::kExitRuntimeError;
}

int Fail(const absl::Status& status) {
  errors::Say(errors::Id::kRulesDoNotFit, status);
  return runtime::kExitRuntimeError;
}

// A visitor: one overload for each alternative of Command.
struct Execute {
  int operator()(const RunCommand& command) const {
    absl::StatusOr<runtime::SessionOptions> session = SessionOf(command);
    if (!session.ok()) return Fail(session.status());
    return command.metrics_file.empty() ? runtime::RunSession(*session)
                                        : RunWithMetrics(*session, command.metrics_file);
  }

  int operator()(const StatCommand& command) const {
    absl::StatusOr<runtime::SessionOptions> session = SessionOf(command.run);
    if (!session.ok()) return Fail(session.status());
    const StatReport report{.file = session->statistics_file, .as_json = command.as_json};
    return RunStat(*session, report, command.run.metrics_file);
  }

  int operator()(const PrepareCommand& command) const {
    absl::StatusOr<runtime::SessionOptions> session = SessionOf(command.run);
    return session.ok() ? RunPrepare(*session) : Fail(session.status());
  }

  int operator()(const ExplainCommand& command) const {
    runtime::SessionOptions session = command.run.session;
    const policy::Policy policy = PolicyOf(command.run);
    const absl::Status status = policy::Compile(policy, SurroundingsFor(policy), session);
    if (!status.ok()) return Fail(status);
    if (command.format == ExplainFormat::kText) {
      return Print(policy::FormatStatements(policy::Explain(policy, session)));
    }
    const absl::StatusOr<std::string> section =
        policy::ExportOciSeccomp({.default_action = session.rules.default_call_action,
                                  .default_error = session.rules.default_call_error,
                                  .rules = session.rules.calls});
    return section.ok() ? Print(*section) : Fail(section.status());
  }

  int operator()(const LearnCommand& command) const { return RunLearn(command); }

  int operator()(const CheckCommand& command) const {
    const absl::StatusOr<std::vector<std::string>> lines = CheckPolicies(command.files);
    if (!lines.ok()) return Fail(lines.status());
    const std::string text =
        absl::StrCat(absl::StrJoin(*lines, "\n"), lines->empty() ? "" : "\n");
    const int status = Print(text);
    return status == 0 && !lines->empty() ? 1 : status;
  }

  int operator()(const DoctorCommand& command) const { return doctor::RunDoctor(command.format); }

  int operator()(const BenchCommand& command) const { return bench::RunBench(command); }
  int operator()(const oci::Command& command) const { return oci::RunCommand(command); }

  int operator()(const PrintText& print) const { return Print(print.text); }

  int operator()(const UsageError& error) const {
    errors::Say(error.id, error.message);
    return runtime::kExitRuntimeError;
  }
};

}  // namespace
}  // namespace dunebox::cli

int main(int argc, char** argv) {
  // argc can be 0: an exec with an empty argv.
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (const auto state_fd = dunebox::runtime::ResumeDescriptor(arguments)) {
    return dunebox::runtime::ResumeSession(*state_fd);
  }
  if (const auto operation = dunebox::bench::OperationAsked(arguments)) {
    return dunebox::bench::RunOperation(*operation);
  }
  constexpr std::string_view kNameForEngines = "dunebox-oci";
  const std::string_view name = argc > 0 ? argv[0] : "";
  if (name.substr(name.rfind('/') + 1) == kNameForEngines) arguments.insert(arguments.begin(), "oci");
  return std::visit(dunebox::cli::Execute{}, dunebox::cli::ParseCommandLine(arguments));
}
