#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/table/table.h"
#include "sandbox/policy/oci_seccomp.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::ArgumentCondition;
using hostcalls::policy::CallAction;
using hostcalls::policy::CallRule;
using hostcalls::policy::Comparison;
using Json = nlohmann::ordered_json;
using Conditions = std::vector<ArgumentCondition>;

// More than a person's rules come to; keeps a product of alternatives finite.
constexpr std::size_t kMostAlternatives = 256;

struct Verdict {
  CallAction action;
  std::uint16_t error;

  bool operator==(const Verdict& other) const {
    return action == other.action && (action != CallAction::kError || error == other.error);
  }
};

Verdict VerdictOf(const CallRule& rule) { return {rule.action, rule.error}; }

std::string_view NameOf(CallAction action) {
#define OCI_ACTION(name, own, note) \
  if (action == CallAction::own) return name;
#include "sandbox/policy/oci_names.inc"
  return "";
}

std::string_view NameOf(Comparison comparison) {
#define OCI_COMPARISON(name, own) \
  if (comparison == Comparison::own) return name;
#include "sandbox/policy/oci_names.inc"
  return "";
}

// ---- Conditions ---------------------------------------------------------------------------------

// When `condition` does not hold, as alternatives.
std::vector<ArgumentCondition> Negation(const ArgumentCondition& condition) {
  ArgumentCondition negated = condition;
  switch (condition.comparison) {
    case Comparison::kEqual:
      negated.comparison = Comparison::kNotEqual;
      return {negated};
    case Comparison::kNotEqual:
      negated.comparison = Comparison::kEqual;
      return {negated};
    case Comparison::kLess:
      negated.comparison = Comparison::kGreaterOrEqual;
      return {negated};
    case Comparison::kLessOrEqual:
      negated.comparison = Comparison::kGreater;
      return {negated};
    case Comparison::kGreater:
      negated.comparison = Comparison::kLessOrEqual;
      return {negated};
    case Comparison::kGreaterOrEqual:
      negated.comparison = Comparison::kLess;
      return {negated};
    case Comparison::kMaskedEqual:
      break;
  }
  // One of the masked bits is the other way round. A value with bits outside the mask is never
  // equal, so its negation always holds: no bit is looked at.
  if ((condition.value & ~condition.mask) != 0) {
    return {{.argument = condition.argument, .comparison = Comparison::kMaskedEqual, .mask = 0}};
  }
  std::vector<ArgumentCondition> alternatives;
  for (std::uint64_t bit = 1; bit != 0; bit <<= 1) {
    if ((condition.mask & bit) == 0) continue;
    negated.mask = bit;
    negated.value = ~condition.value & bit;
    alternatives.push_back(negated);
  }
  return alternatives;
}

enum class Joined { kYes, kNever, kNoWords };

// Adds one more condition that has to hold. The format has no words for two on one argument, so
// they have to become one.
Joined Join(Conditions& conditions, const ArgumentCondition& added) {
  const bool is_masked = added.comparison == Comparison::kMaskedEqual;
  if (is_masked && (added.value & ~added.mask) != 0) return Joined::kNever;
  const auto same = std::ranges::find(conditions, added.argument, &ArgumentCondition::argument);
  if (same == conditions.end()) {
    conditions.push_back(added);
    return Joined::kYes;
  }
  if (same->comparison == added.comparison && same->value == added.value &&
      same->mask == added.mask) {
    return Joined::kYes;
  }
  if (!is_masked || same->comparison != Comparison::kMaskedEqual) return Joined::kNoWords;
  if (((same->value ^ added.value) & same->mask & added.mask) != 0) return Joined::kNever;
  same->mask |= added.mask;
  same->value |= added.value;
  return Joined::kYes;
}

// ---- Rules of one call --------------------------------------------------------------------------

// What the section says of one call: `verdict` if one of the alternatives holds, else the default.
struct Entry {
  Verdict verdict;
  std::vector<Conditions> alternatives;
};

absl::Status NoWords(const CallRule& rule, std::string_view what) {
  const hostcalls::Row* const row = hostcalls::FindRow(rule.number);
  return errors::Named(
      errors::Id::kCannotExport,
      absl::UnimplementedError(
          fmt::format("OCI's seccomp section cannot say the rules of {}: {}",
                      row == nullptr ? fmt::format("call {}", rule.number) : row->name, what)));
}

absl::Status AppendRule(const CallRule& rule, std::vector<Conditions>& alternatives) {
  Conditions joined;
  for (const ArgumentCondition& condition : rule.conditions) {
    const Joined how = Join(joined, condition);
    if (how == Joined::kNoWords) return NoWords(rule, "two conditions on one argument");
    if (how == Joined::kNever) return absl::OkStatus();
  }
  alternatives.push_back(std::move(joined));
  return absl::OkStatus();
}

// When none of the rules holds.
absl::StatusOr<std::vector<Conditions>> OfNone(std::span<const CallRule> rules) {
  std::vector<Conditions> alternatives = {{}};
  for (const CallRule& rule : rules) {
    std::vector<Conditions> next;
    for (const Conditions& so_far : alternatives) {
      for (const ArgumentCondition& condition : rule.conditions) {
        for (const ArgumentCondition& negated : Negation(condition)) {
          Conditions joined = so_far;
          const Joined how = Join(joined, negated);
          if (how == Joined::kNoWords) return NoWords(rule, "two conditions on one argument");
          if (how == Joined::kYes) next.push_back(std::move(joined));
          if (next.size() > kMostAlternatives) return NoWords(rule, "too many alternatives");
        }
      }
    }
    alternatives = std::move(next);
  }
  return alternatives;
}

// The first rule that holds decides here; there, one without conditions decides over the others
// and the order of the others is nobody's promise. So only what does not depend on it is written.
absl::StatusOr<std::optional<Entry>> EntryOf(std::span<const CallRule> rules, Verdict default_one) {
  const auto whole =
      std::ranges::find_if(rules, [](const CallRule& rule) { return rule.conditions.empty(); });
  const Verdict last = whole == rules.end() ? default_one : VerdictOf(*whole);
  std::span<const CallRule> some(rules.begin(), whole);
  while (!some.empty() && VerdictOf(some.back()) == last) some = some.first(some.size() - 1);
  if (some.empty()) {
    if (last == default_one) return std::nullopt;
    return Entry{last, {{}}};
  }
  const Verdict first = VerdictOf(some.front());
  for (const CallRule& rule : some) {
    if (!(VerdictOf(rule) == first)) return NoWords(rule, "an order of different actions");
  }
  if (last == default_one) {
    Entry entry{first, {}};
    for (const CallRule& rule : some) {
      const absl::Status status = AppendRule(rule, entry.alternatives);
      if (!status.ok()) return status;
    }
    return entry;
  }
  if (!(first == default_one)) return NoWords(some.front(), "three different outcomes");
  absl::StatusOr<std::vector<Conditions>> none = OfNone(some);
  if (!none.ok()) return none.status();
  return Entry{last, *std::move(none)};
}

// ---- The section --------------------------------------------------------------------------------

Json ToJson(const Conditions& conditions) {
  Json list = Json::array();
  for (const ArgumentCondition& condition : conditions) {
    const bool is_masked = condition.comparison == Comparison::kMaskedEqual;
    Json one = {{"index", condition.argument},
                {"value", is_masked ? condition.mask : condition.value}};
    if (is_masked) one["valueTwo"] = condition.value;
    one["op"] = NameOf(condition.comparison);
    list.push_back(std::move(one));
  }
  return list;
}

void SetVerdict(Json& object, Verdict verdict, const char* action_name, const char* error_name) {
  object[action_name] = NameOf(verdict.action);
  if (verdict.action == CallAction::kError) object[error_name] = verdict.error;
}

// Calls without conditions that have one verdict share an entry.
void Append(Json& entries, std::string_view name, const Entry& entry) {
  for (const Conditions& conditions : entry.alternatives) {
    Json object = {{"names", {name}}};
    SetVerdict(object, entry.verdict, "action", "errnoRet");
    if (!conditions.empty()) object["args"] = ToJson(conditions);
    const auto like = std::ranges::find_if(entries, [&](const Json& other) {
      return conditions.empty() && !other.contains("args") && other["action"] == object["action"] &&
             other.value("errnoRet", 0) == object.value("errnoRet", 0);
    });
    if (like == entries.end()) {
      entries.push_back(std::move(object));
    } else {
      (*like)["names"].push_back(name);
    }
  }
}

}  // namespace

absl::StatusOr<std::string> ExportOciSeccomp(const CallRules& rules) {
  const Verdict default_one{rules.default_action, rules.default_error};
  Json section = Json::object();
  SetVerdict(section, default_one, "defaultAction", "defaultErrnoRet");
  section["architectures"] = {"SCMP_ARCH_X86_64"};
  Json entries = Json::array();
  const std::span<const CallRule> all = rules.rules;
  for (std::size_t begin = 0, end = 0; begin < all.size(); begin = end) {
    while (end < all.size() && all[end].number == all[begin].number) ++end;
    const hostcalls::Row* const row = hostcalls::FindRow(all[begin].number);
    if (row == nullptr) return NoWords(all[begin], "no call has this number");
    const absl::StatusOr<std::optional<Entry>> entry =
        EntryOf(all.subspan(begin, end - begin), default_one);
    if (!entry.ok()) return entry.status();
    if (entry->has_value()) Append(entries, row->name, **entry);
  }
  section["syscalls"] = std::move(entries);
  return section.dump(2) + "\n";
}

}  // namespace dunebox::policy
