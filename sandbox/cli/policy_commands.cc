#include "sandbox/cli/policy_commands.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/confinement/mechanisms.h"
#include "runtime/confinement/namespaces.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/explain.h"
#include "sandbox/policy/lint.h"
#include "sandbox/policy/policy_file.h"

namespace dunebox::cli {
namespace {

// But for the user namespace, which is a means that root can do without. What cannot be looked for is as good as none.
std::vector<confinement::Mechanism> MissingNamespaces() {
  using confinement::Mechanism;
  constexpr Mechanism kNamespaces[] = {Mechanism::kMountNamespace, Mechanism::kPidNamespace,
                                       Mechanism::kNetworkNamespace, Mechanism::kIpcNamespace,
                                       Mechanism::kUtsNamespace};
  const absl::StatusOr<confinement::MechanismSet> possible = confinement::ProbeNamespaces();
  std::vector<Mechanism> missing;
  for (const Mechanism mechanism : kNamespaces) {
    if (!possible.ok() || !possible->Has(mechanism)) missing.push_back(mechanism);
  }
  return missing;
}

policy::Surroundings SurroundingsWithout(std::span<const confinement::Mechanism> missing) {
  policy::Surroundings surroundings = policy::CallersSurroundings();
  surroundings.mount_namespace = std::ranges::count(missing, confinement::Mechanism::kMountNamespace) == 0;
  return surroundings;
}

// Of a session that is `stated` and what the policy says.
std::function<absl::Status(runtime::SessionOptions&)> WithoutView(
    const runtime::SessionOptions& stated, const policy::Policy& policy) {
  return [stated, policy](runtime::SessionOptions& session) {
    constexpr confinement::Mechanism kView[] = {confinement::Mechanism::kMountNamespace};
    const policy::Surroundings surroundings = SurroundingsWithout(kView);
    runtime::SessionOptions other = stated;
    if (absl::Status status = policy::Compile(policy, surroundings, other); !status.ok()) return status;
    session.rules = std::move(other.rules);
    session.plan = std::move(other.plan);
    session.directory = std::move(other.directory);
    return absl::OkStatus();
  };
}

}  // namespace

policy::Surroundings SurroundingsFor(const policy::Policy& policy) {
  // To try takes time, and the rights of the caller do not depend on it.
  return policy.allow_all ? policy::CallersSurroundings() : SurroundingsWithout(MissingNamespaces());
}

policy::Policy PolicyOf(const RunCommand& command) { return policy::Effective(command.policy); }

absl::StatusOr<runtime::SessionOptions> SessionOf(const RunCommand& command) {
  const policy::Policy policy = PolicyOf(command);
  // To try out whether there are mount namespaces takes as long as to make one: a session finds out by itself.
  const bool is_made = !command.session.dry_run;
  const policy::Surroundings surroundings =
      is_made ? policy::CallersSurroundings() : SurroundingsFor(policy);
  runtime::SessionOptions session = command.session;
  const absl::Status status = policy::Compile(policy, surroundings, session);
  if (!status.ok()) return status;
  if (is_made && session.plan.confine) session.leave_out_view = WithoutView(command.session, policy);
  if (session.dry_run) session.rights = policy::ListStatements(policy::Explain(policy, session));
  return session;
}

absl::StatusOr<std::vector<std::string>> CheckPolicies(const std::vector<std::string>& files) {
  policy::Policy stated;
  std::vector<std::string> lines;
  for (const std::string& file : files) {
    std::vector<std::string> notes;
    const absl::Status status = policy::AddPolicyFile(stated, file, &notes);
    // A mistake in a file is what we are here for; what follows from it is not.
    if (absl::IsInvalidArgument(status)) return {{absl::StrCat(status.message())}};
    if (!status.ok()) return status;
    lines.insert(lines.end(), notes.begin(), notes.end());
  }
  const std::vector<confinement::Mechanism> missing = MissingNamespaces();
  const policy::Surroundings surroundings = SurroundingsWithout(missing);
  runtime::SessionOptions session;
  const absl::Status status = policy::Compile(policy::Effective(stated), surroundings, session);
  if (!status.ok()) lines.push_back(absl::StrCat(status.message()));
  const policy::LintSurroundings places = {.home = policy::ValueOf(surroundings, "HOME"),
                                           .directory = surroundings.directory,
                                           .missing = missing};
  for (const policy::Finding& finding : policy::Lint(stated, places)) {
    lines.push_back(policy::Format(finding));
  }
  return lines;
}

}  // namespace dunebox::cli
