#include <algorithm>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "sandbox/policy/call_groups.h"
#include "sandbox/policy/compile_parts.h"

namespace dunebox::policy {

absl::Status CompileCalls(const Policy& policy, hostcalls::policy::Rules& rules) {
  if (policy.default_call) {
    rules.default_call_action = policy.default_call->value;
    rules.default_call_error = policy.default_call_error;
  }
  for (const CallRule& rule : policy.calls) {
    const std::optional<std::vector<std::uint16_t>> numbers = CallsNamed(rule.calls);
    if (!numbers) {
      return At(rule.origin,
                errors::Named(errors::Id::kBadRule, absl::InvalidArgumentError(absl::StrCat(
                                                        "'", rule.calls, "' is no system call"))));
    }
    for (const std::uint16_t number : *numbers) {
      rules.calls.push_back({.number = number,
                             .action = rule.action,
                             .error = rule.error,
                             .conditions = rule.conditions,
                             .origin = OriginOf(rules, rule.origin)});
    }
  }
  std::ranges::stable_sort(rules.calls, {}, &hostcalls::policy::CallRule::number);
  return absl::OkStatus();
}

}  // namespace dunebox::policy
