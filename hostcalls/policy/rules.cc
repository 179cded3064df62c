#include "hostcalls/policy/rules.h"

#include <algorithm>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "hostcalls/fields.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls::policy {
namespace {

constexpr std::uint64_t kMagic = 0x324c'5552'5844;  // "DXRUL2"
constexpr int kMostError = 4095;                    // MAX_ERRNO [linux]
constexpr int kMostPrefix = 128;

// The first rule whose path is not before `path`.
auto FirstFrom(const std::vector<PathRule>& rules, std::string_view path) {
  return std::ranges::lower_bound(rules, path, std::less<>{},
                                  [](const PathRule& rule) { return std::string_view(rule.path); });
}

const PathRule* FindExact(const std::vector<PathRule>& rules, std::string_view path) {
  const auto found = FirstFrom(rules, path);
  return found != rules.end() && found->path == path ? &*found : nullptr;
}

// Those whose trees lie in the one at `path`, but are not that one.
std::span<const PathRule> RulesBelow(const std::vector<PathRule>& rules, std::string_view path) {
  std::string below(path);
  if (!below.ends_with('/')) below += '/';
  auto first = FirstFrom(rules, below);
  if (first != rules.end() && first->path == below) ++first;  // "/" itself
  const auto last = std::find_if(
      first, rules.end(), [&](const PathRule& rule) { return !rule.path.starts_with(below); });
  return {first, last};
}

// ---- Bytes --------------------------------------------------------------------------------------

template <typename Fields, typename Endpoints>
void VisitEndpoints(Fields& fields, Endpoints& endpoints) {
  fields.List(endpoints, [&](auto& endpoint) {
    fields.Field(endpoint.address);
    fields.Field(endpoint.prefix);
    fields.Field(endpoint.first_port);
    fields.Field(endpoint.last_port);
    fields.Field(endpoint.origin);
  });
}

template <typename Fields, typename Calls>
void VisitCalls(Fields& fields, Calls& calls) {
  fields.List(calls, [&](auto& call) {
    fields.Field(call.number);
    fields.Field(call.action);
    fields.Field(call.error);
    fields.List(call.conditions, [&](auto& condition) {
      fields.Field(condition.argument);
      fields.Field(condition.comparison);
      fields.Field(condition.value);
      fields.Field(condition.mask);
    });
    fields.Field(call.origin);
  });
}

// One list of fields for both directions.
template <typename Fields, typename State>
void VisitFields(Fields& fields, State& rules) {
  fields.Field(rules.allow_all);
  fields.Field(rules.audit);
  fields.List(rules.paths, [&](auto& rule) {
    fields.Field(rule.path);
    fields.Field(rule.rights);
    fields.Field(rule.origin);
    fields.Field(rule.itself_alone);
  });
  fields.Field(rules.network.reach);
  fields.Field(rules.network.origin);
  VisitEndpoints(fields, rules.network.outbound);
  VisitEndpoints(fields, rules.network.listen);
  fields.Field(rules.network.unix_sockets);
  fields.Field(rules.default_call_action);
  fields.Field(rules.default_call_error);
  VisitCalls(fields, rules.calls);
  fields.Field(rules.signal_outside);
  fields.Field(rules.most_output);
  fields.Field(rules.origins);
}

// ---- What a policy compiles to, and nothing else ------------------------------------------------

// "/" or "/a/b": no empty component, no "." and no "..".
bool IsResolved(std::string_view path) {
  if (path == "/") return true;
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string_view::npos) {
    return false;
  }
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view name = path.substr(0, path.find('/'));
    if (name.empty() || name == "." || name == "..") return false;
    path.remove_prefix(name.size());
  }
  return true;
}

bool IsError(std::uint16_t error) { return error >= 1 && error <= kMostError; }

bool IsSound(const CallRule& rule) {
  return rule.number < kSyscallTableSize && rule.action <= CallAction::kKill &&
         IsError(rule.error) &&
         std::ranges::all_of(rule.conditions, [](const ArgumentCondition& condition) {
           return condition.argument < kMaxArguments &&
                  condition.comparison <= Comparison::kMaskedEqual;
         });
}

bool AreSound(const std::vector<EndpointRule>& endpoints) {
  return std::ranges::all_of(endpoints, [](const EndpointRule& endpoint) {
    return endpoint.prefix <= kMostPrefix && endpoint.first_port <= endpoint.last_port;
  });
}

bool HasKnownOrigins(const Rules& rules) {
  const std::size_t count = std::max<std::size_t>(1, rules.origins.size());
  const auto known = [&](const auto& rule) { return rule.origin < count; };
  return known(rules.network) && std::ranges::all_of(rules.paths, known) &&
         std::ranges::all_of(rules.calls, known) &&
         std::ranges::all_of(rules.network.outbound, known) &&
         std::ranges::all_of(rules.network.listen, known);
}

bool IsSound(const Rules& rules) {
  const bool paths =
      std::ranges::all_of(rules.paths,
                          [](const PathRule& rule) {
                            return IsResolved(rule.path) && rule.rights <= kAllRights;
                          }) &&
      std::ranges::is_sorted(rules.paths, std::less_equal<>{}, &PathRule::path);
  const bool calls =
      std::ranges::all_of(rules.calls, [](const CallRule& rule) { return IsSound(rule); }) &&
      std::ranges::is_sorted(rules.calls, std::less<>{}, &CallRule::number);
  return paths && calls && rules.network.reach <= Reach::kHost &&
         AreSound(rules.network.outbound) && AreSound(rules.network.listen) &&
         rules.default_call_action <= CallAction::kKill && IsError(rules.default_call_error) &&
         HasKnownOrigins(rules);
}

}  // namespace

bool Holds(const ArgumentCondition& condition, std::uint64_t argument) {
  switch (condition.comparison) {
    case Comparison::kEqual:
      return argument == condition.value;
    case Comparison::kNotEqual:
      return argument != condition.value;
    case Comparison::kLess:
      return argument < condition.value;
    case Comparison::kLessOrEqual:
      return argument <= condition.value;
    case Comparison::kGreater:
      return argument > condition.value;
    case Comparison::kGreaterOrEqual:
      return argument >= condition.value;
    case Comparison::kMaskedEqual:
      return (argument & condition.mask) == condition.value;
  }
  return false;
}

RightsAndOrigin Rules::RightsOn(std::string_view path) const {
  if (path.empty() || path.front() != '/') return {};  // nothing the kernel has a place for
  const std::string_view object = path;
  for (;;) {
    const PathRule* const rule = FindExact(paths, path);
    if (rule != nullptr && (!rule->itself_alone || path == object)) {
      return {rule->rights, rule->origin};
    }
    if (path == "/") return {};
    const std::size_t slash = path.rfind('/');
    path = slash == 0 ? "/" : path.substr(0, slash);
  }
}

bool Rules::LeadsToRights(std::string_view path) const {
  return std::ranges::any_of(RulesBelow(paths, path),
                             [](const PathRule& rule) { return rule.rights != kNoRights; });
}

bool Rules::HasRuleBelow(std::string_view path) const { return !RulesBelow(paths, path).empty(); }

std::string_view Rules::OriginText(Origin origin) const {
  return origin < origins.size() ? std::string_view(origins[origin]) : "default";
}

std::string Serialize(const Rules& rules) {
  FieldWriter writer;
  writer.Field(kMagic);
  VisitFields(writer, rules);
  return writer.Take();
}

absl::StatusOr<Rules> ParseRules(std::string_view bytes) {
  FieldReader reader(bytes);
  std::uint64_t magic = 0;
  reader.Field(magic);
  Rules rules;
  VisitFields(reader, rules);
  if (magic != kMagic || !reader.Done() || !IsSound(rules)) {
    return absl::DataLossError("the rules handed over are damaged");
  }
  return rules;
}

}  // namespace dunebox::hostcalls::policy
