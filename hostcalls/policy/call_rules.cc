#include "hostcalls/policy/call_rules.h"

#include <algorithm>
#include <bitset>
#include <cerrno>

#include "hostcalls/check.h"

namespace dunebox::hostcalls::policy {
namespace {

bool Holds(const CallRule& rule, CallRules::Registers registers) {
  return std::ranges::all_of(rule.conditions, [&](const ArgumentCondition& condition) {
    return condition.argument < registers.size() &&
           Holds(condition, registers[condition.argument]);
  });
}

// Set for calls that concern the whole machine.
const std::bitset<kSyscallTableSize>& MachineCalls() {
  static const auto calls = [] {
    std::bitset<kSyscallTableSize> set;
#define MACHINE_CALL(name) set.set(FindRow(#name)->number);
#include "hostcalls/policy/machine_calls.inc"
#undef MACHINE_CALL
    return set;
  }();
  return calls;
}

bool IsOfMachine(std::uint64_t number) {
  return number < kSyscallTableSize && MachineCalls().test(number);
}

}  // namespace

CallRules::CallRules(const Rules& rules) : rules_(rules) {
  DUNEBOX_CHECK(std::ranges::is_sorted(rules.calls, {}, &CallRule::number), "rules out of order");
  for (std::uint32_t i = 0; i < rules.calls.size(); ++i) {
    const std::uint16_t number = rules.calls[i].number;
    if (number >= places_.size()) continue;  // no such call: the default is for it
    Place& place = places_[number];
    if (place.count++ == 0) place.first = i;
  }
}

std::span<const CallRule> CallRules::RulesOf(std::uint64_t number) const {
  if (number >= places_.size()) return {};
  // Masked: a mistrained branch reads no further than the array either.
  const Place place = places_[number & (places_.size() - 1)];
  return std::span(rules_.calls).subspan(place.first, place.count);
}

CallRules::Decision CallRules::Decide(std::uint64_t number, Registers registers) const {
  for (const CallRule& rule : RulesOf(number)) {
    if (Holds(rule, registers)) {
      return {.action = rule.action, .error = rule.error, .origin = rule.origin};
    }
  }
  if (rules_.default_call_action == CallAction::kAllow && IsOfMachine(number)) {
    return {.action = CallAction::kError, .error = EPERM, .origin = 0};
  }
  return {.action = rules_.default_call_action, .error = rules_.default_call_error, .origin = 0};
}

bool CallRules::AlwaysAllows(std::uint64_t number) const {
  for (const CallRule& rule : RulesOf(number)) {
    if (rule.action != CallAction::kAllow) return false;
    if (rule.conditions.empty()) return true;
  }
  return rules_.default_call_action == CallAction::kAllow && !IsOfMachine(number);
}

}  // namespace dunebox::hostcalls::policy
