// `dunebox policy learn`: runs a program with everything allowed, records what the policy at hand
// would have denied, and proposes a policy file.
//
//   return RunLearn(command);   // the program's exit status; 125 where we failed
#ifndef DUNEBOX_SANDBOX_CLI_POLICY_LEARN_H_
#define DUNEBOX_SANDBOX_CLI_POLICY_LEARN_H_

#include "absl/status/statusor.h"
#include "runtime/session.h"
#include "sandbox/cli/options.h"

namespace dunebox::cli {

// Messages go to stderr. Without a program it proposes from the records of earlier runs.
int RunLearn(const LearnCommand& command);

// How the program is run: under no wall, with every denial audited.
absl::StatusOr<runtime::SessionOptions> LearningSession(const RunCommand& command);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_POLICY_LEARN_H_
