// From parsed words to a policy, to a session, and to what `dunebox policy check` says.
//
//   absl::StatusOr<runtime::SessionOptions> session = SessionOf(command);
//   absl::StatusOr<std::vector<std::string>> lines = CheckPolicies({"policy.toml"});
#ifndef DUNEBOX_SANDBOX_CLI_POLICY_COMMANDS_H_
#define DUNEBOX_SANDBOX_CLI_POLICY_COMMANDS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/session.h"
#include "sandbox/cli/options.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/policy.h"

namespace dunebox::cli {

// The caller's, with what this machine offers for `policy`.
policy::Surroundings SurroundingsFor(const policy::Policy& policy);
// The effective policy of what was stated.
policy::Policy PolicyOf(const RunCommand& command);
absl::StatusOr<runtime::SessionOptions> SessionOf(const RunCommand& command);
// What is to be said about the files, read in this order into one policy; a line for each. Fails when
// one of them cannot be read.
absl::StatusOr<std::vector<std::string>> CheckPolicies(const std::vector<std::string>& files);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_POLICY_COMMANDS_H_
