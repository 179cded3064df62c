// What is wrong, or more than it seems, with a policy: `dunebox policy check`.
//
// Finds rules without effect, rules that give away more than somebody would expect, calls that are
// dangerous to allow, rules this machine cannot carry out, and rules that contradict each other.
// A finding is an opinion: every policy it is about can be run, if it can be compiled. Defaults and
// presets are taken as they are. Looks at names only, never at the files themselves.
//
//   for (const Finding& finding : Lint(policy, surroundings)) Print(Format(finding));
//   // policy.toml:7: warning: ~/.ssh can be read and sent away (read only what is needed ...)
#ifndef DUNEBOX_SANDBOX_POLICY_LINT_H_
#define DUNEBOX_SANDBOX_POLICY_LINT_H_

#include <string>
#include <vector>

#include "runtime/confinement/plan.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

enum class FindingKind : std::uint8_t {
  kUnreachable,  // without effect: another rule decides
  kTooWide,
  kDangerousCall,
  kForeignCode,  // what is written there is executed outside
  kNotHere,      // needs a mechanism that this machine does not have
  kContradiction,
};

struct Finding {
  FindingKind kind = FindingKind::kUnreachable;
  OriginText origin;
  std::string reason;
  std::string suggestion;  // may be empty
};

struct LintSurroundings {
  std::string home, directory;                  // absolute; what "~/" and relative paths mean
  std::vector<confinement::Mechanism> missing;  // on this machine
};

// In the order of the rules, files first. `stated` is without the default policy.
std::vector<Finding> Lint(const Policy& stated, const LintSurroundings& surroundings);

// "ORIGIN: warning: REASON (SUGGESTION)"
std::string Format(const Finding& finding);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_LINT_H_
