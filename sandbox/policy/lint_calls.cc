#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "hostcalls/table/table.h"
#include "sandbox/policy/call_groups.h"
#include "sandbox/policy/lint_parts.h"

namespace dunebox::policy {
namespace {

using hostcalls::FindRow;
using hostcalls::Route;
using hostcalls::policy::ArgumentCondition;
using hostcalls::policy::CallAction;

struct RiskyCall {
  std::string_view name, reason;
};
constexpr RiskyCall kRiskyCalls[] = {
#define RISKY_CALL(call, reason) {#call, reason},
#include "sandbox/policy/risky_calls.inc"
#undef RISKY_CALL
};

bool IsSame(const ArgumentCondition& one, const ArgumentCondition& other) {
  return one.argument == other.argument && one.comparison == other.comparison &&
         one.value == other.value && one.mask == other.mask;
}

bool IsRefusedAnyway(std::uint16_t number) {
  const Route route = FindRow(std::uint64_t{number})->route;
  return route == Route::kDenied || route == Route::kAbsent;
}

class CallLint {
 public:
  CallLint(const Policy& policy, std::vector<Finding>& findings)
      : policy_(policy), findings_(findings) {}

  void Run() {
    for (const CallRule& rule : policy_.calls) {
      const std::optional<std::vector<std::uint16_t>> numbers = CallsNamed(rule.calls);
      if (!numbers) {
        Add(FindingKind::kContradiction, rule, fmt::format("no call or group {}", rule.calls), "");
        continue;
      }
      if (!IsBuiltIn(rule.origin)) Check(rule, *numbers);
      for (const std::uint16_t number : *numbers) rules_of_[number].push_back(&rule);
    }
    CheckThatItCanEnd();
  }

 private:
  void Add(FindingKind kind, const CallRule& rule, std::string reason, std::string suggestion) {
    findings_.push_back({kind, rule.origin, std::move(reason), std::move(suggestion)});
  }

  // The rule before it that decides whenever it would.
  const CallRule* HiddenBy(const CallRule& rule, std::uint16_t number) {
    for (const CallRule* earlier : rules_of_[number]) {
      const bool hides = std::ranges::all_of(earlier->conditions, [&](const auto& condition) {
        return std::ranges::any_of(rule.conditions,
                                   [&](const auto& own) { return IsSame(own, condition); });
      });
      if (hides) return earlier;
    }
    return nullptr;
  }

  void Check(const CallRule& rule, const std::vector<std::uint16_t>& numbers) {
    const CallRule* hiding = nullptr;
    const bool is_hidden = std::ranges::all_of(numbers, [&](std::uint16_t number) {
      hiding = HiddenBy(rule, number);
      return hiding != nullptr;
    });
    if (is_hidden) {
      return Add(FindingKind::kUnreachable, rule,
                 fmt::format("the rule for {} has no effect: {} decides before it", rule.calls,
                             hiding->origin),
                 "put the special rule before the general one");
    }
    if (rule.action != CallAction::kAllow) return;
    if (std::ranges::all_of(numbers, IsRefusedAnyway)) {
      return Add(FindingKind::kUnreachable, rule,
                 fmt::format("allowing {} has no effect: the runtime refuses it under any policy",
                             rule.calls),
                 "remove it");
    }
    if (!rule.conditions.empty()) return;
    std::vector<std::string> risks;
    for (const RiskyCall& risky : kRiskyCalls) {
      const std::uint16_t number = FindRow(risky.name)->number;
      if (std::ranges::find(numbers, number) == numbers.end() ||
          HiddenBy(rule, number) != nullptr) {
        continue;
      }
      risks.push_back(fmt::format("{} {}", risky.name, risky.reason));
    }
    if (risks.empty()) return;
    Add(FindingKind::kDangerousCall, rule,
        fmt::format("allows a dangerous call: {}", fmt::join(risks, "; ")),
        "allow the calls that are needed by name, with conditions on their arguments");
  }

  void CheckThatItCanEnd() {
    if (!policy_.default_call || policy_.default_call->value == CallAction::kAllow) return;
    const std::uint16_t number = FindRow("exit_group")->number;
    const bool is_allowed = std::ranges::any_of(
        rules_of_[number], [](const CallRule* rule) { return rule->action == CallAction::kAllow; });
    if (is_allowed) return;
    findings_.push_back({FindingKind::kContradiction, policy_.default_call->origin,
                         "no rule allows exit_group: a program could not even end",
                         "allow @process and @memory, @io, @signal as far as it needs them"});
  }

  const Policy& policy_;
  std::vector<Finding>& findings_;
  std::map<std::uint16_t, std::vector<const CallRule*>> rules_of_;
};

}  // namespace

void LintCalls(const Policy& policy, std::vector<Finding>& findings) {
  CallLint(policy, findings).Run();
}

}  // namespace dunebox::policy
