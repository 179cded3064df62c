#include "sandbox/cli/policy_commands.h"

#include "absl/strings/str_cat.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/explain.h"
#include "sandbox/policy/lint.h"
#include "sandbox/policy/policy_file.h"

namespace dunebox::cli {

policy::Policy PolicyOf(const RunCommand& command) {
  return policy::Effective(command.policy);
}

absl::StatusOr<runtime::SessionOptions> SessionOf(const RunCommand& command) {
  const policy::Policy policy = PolicyOf(command);
  runtime::SessionOptions session = command.session;
  const absl::Status status = policy::Compile(policy, policy::CallersSurroundings(), session);
  if (!status.ok()) return status;
  if (session.dry_run) session.rights = policy::ListStatements(policy::Explain(policy, session));
  return session;
}

std::vector<std::string> CheckPolicies(const std::vector<std::string>& files) {
  policy::Policy stated;
  for (const std::string& file : files) {
    const absl::Status status = policy::AddPolicyFile(stated, file);
    if (!status.ok()) return {absl::StrCat(status.message())};
  }
  const policy::Surroundings surroundings = policy::CallersSurroundings();
  std::vector<std::string> lines;
  runtime::SessionOptions session;
  const absl::Status status = policy::Compile(policy::Effective(stated), surroundings, session);
  if (!status.ok()) lines.push_back(absl::StrCat(status.message()));
  const policy::LintSurroundings places = {.home = policy::ValueOf(surroundings, "HOME"),
                                           .directory = surroundings.directory};
  for (const policy::Finding& finding : policy::Lint(stated, places)) {
    lines.push_back(policy::Format(finding));
  }
  return lines;
}

}  // namespace dunebox::cli
