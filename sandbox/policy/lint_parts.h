// The parts of Lint, one for each matter, and what they share.
#ifndef DUNEBOX_SANDBOX_POLICY_LINT_PARTS_H_
#define DUNEBOX_SANDBOX_POLICY_LINT_PARTS_H_

#include <string_view>
#include <vector>

#include "sandbox/policy/lint.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

// `policy` is an effective one, defaults included.
void LintFiles(const Policy& policy, const LintSurroundings& surroundings,
               std::vector<Finding>& findings);
void LintNetwork(const Policy& policy, const LintSurroundings& surroundings,
                 std::vector<Finding>& findings);
void LintCalls(const Policy& policy, std::vector<Finding>& findings);

// Was the rule written by us? Then it is no news to anybody.
inline bool IsBuiltIn(std::string_view origin) {
  return origin == "default" || origin.starts_with("preset ");
}

// May data leave the machine?
inline bool HasWayOut(const Policy& policy) {
  for (const NetworkRule& rule : policy.network) {
    if (rule.kind == NetworkKind::kHost || rule.kind == NetworkKind::kConnect) return true;
  }
  return false;
}

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_LINT_PARTS_H_
