// The command line: parse, then hand over. Nothing is decided here.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/doctor/doctor.h"
#include "runtime/session.h"
#include "sandbox/cli/options.h"
#include "sandbox/policy/compile.h"

namespace dunebox::cli {
namespace {

// A visitor: one overload for each alternative of Command.
struct Execute {
  int operator()(const RunCommand& command) const {
    policy::Policy policy = policy::Effective(command.policy);
    // Nothing was said about rights: those of the caller.
    if (!command.policy.HasRules() && !command.policy.allow_all) {
      policy = command.policy;
      policy.allow_all = "default";
    }
    runtime::SessionOptions session = command.session;
    const absl::Status status =
        policy::Compile(policy, policy::CallersSurroundings(), session);
    if (status.ok()) return runtime::RunSession(session);
    std::fprintf(stderr, "dunebox: %s\n", std::string(status.message()).c_str());
    return runtime::kExitRuntimeError;
  }

  int operator()(const DoctorCommand& command) const { return doctor::RunDoctor(command.format); }

  int operator()(const PrintText& print) const {
    if (std::fputs(print.text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return 0;
    std::fprintf(stderr, "dunebox: cannot write to standard output: %s\n", std::strerror(errno));
    return runtime::kExitRuntimeError;
  }

  int operator()(const UsageError& error) const {
    std::fprintf(stderr, "dunebox: %s\n", error.message.c_str());
    return runtime::kExitRuntimeError;
  }
};

}  // namespace
}  // namespace dunebox::cli

int main(int argc, char** argv) {
  // argc can be 0: an exec with an empty argv.
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (const auto state_fd = dunebox::runtime::ResumeDescriptor(arguments)) {
    return dunebox::runtime::ResumeSession(*state_fd);
  }
  return std::visit(dunebox::cli::Execute{}, dunebox::cli::ParseCommandLine(arguments));
}
