#include <algorithm>

#include "absl/strings/str_cat.h"
#include "hostcalls/table/table.h"
#include "sandbox/policy/compile_parts.h"

namespace dunebox::policy {

absl::Status CompileCalls(const Policy& policy, hostcalls::policy::Rules& rules) {
  if (policy.default_call) rules.default_call_action = policy.default_call->value;
  for (const CallRule& rule : policy.calls) {
    const hostcalls::Row* const row = hostcalls::FindRow(std::string_view(rule.calls));
    if (row == nullptr) {
      return At(rule.origin,
                absl::InvalidArgumentError(absl::StrCat("'", rule.calls, "' is no system call")));
    }
    rules.calls.push_back({.number = row->number,
                           .action = rule.action,
                           .error = rule.error,
                           .conditions = rule.conditions,
                           .origin = OriginOf(rules, rule.origin)});
  }
  std::ranges::stable_sort(rules.calls, {}, &hostcalls::policy::CallRule::number);
  return absl::OkStatus();
}

}  // namespace dunebox::policy
