#include "sandbox/policy/call_rule_text.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "hostcalls/table/table.h"
#include "sandbox/policy/call_groups.h"
#include "sandbox/policy/quoted.h"
#include "sandbox/policy/suggestion.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::ArgumentCondition;
using hostcalls::policy::CallAction;
using hostcalls::policy::Comparison;

constexpr std::uint16_t kMostErrno = 133;  // [linux] EHWPOISON

struct ComparisonRow {
  Comparison comparison;
  std::string_view sign;
};

constexpr ComparisonRow kComparisons[] = {
    {Comparison::kEqual, "=="},  {Comparison::kNotEqual, "!="},
    {Comparison::kLess, "<"},    {Comparison::kLessOrEqual, "<="},
    {Comparison::kGreater, ">"}, {Comparison::kGreaterOrEqual, ">="},
};

absl::Status Bad(std::string_view word, std::string_view what_it_is_not) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", Escaped(word), "' ", std::string(what_it_is_not)));
}

// 10 or 0x10.
std::optional<std::uint64_t> ParseNumber(std::string_view text) {
  const bool is_hexadecimal = text.starts_with("0x");
  if (is_hexadecimal) text.remove_prefix(2);
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, is_hexadecimal ? 16 : 10);
  return error == std::errc() && rest == end ? std::optional(number) : std::nullopt;
}

std::optional<std::uint16_t> ErrnoNamed(std::string_view name) {
  for (std::uint16_t number = 1; number <= kMostErrno; ++number) {
    const char* const known = strerrorname_np(number);
    if (known != nullptr && name == known) return number;
  }
  return std::nullopt;
}

absl::Status CheckCall(const std::string& name) {
  if (CallsNamed(name)) return absl::OkStatus();
  std::vector<std::string> known;
  for (const CallGroup& group : CallGroups())
    known.push_back(absl::StrCat("@", std::string(group.name)));
  for (const hostcalls::Row& row : hostcalls::AllRows()) known.emplace_back(row.name);
  const bool is_group = name.starts_with('@');
  return Bad(name, absl::StrCat(is_group ? "is no group of system calls" : "is no system call",
                                DidYouMean(name, known)));
}

constexpr std::string_view kConditionForm =
    "is not a condition: argN == NUMBER, with ==, !=, <, <=, >, >=, or argN & MASK == NUMBER";

// arg1 == 5; arg1 & 4 == 4
absl::StatusOr<ArgumentCondition> ParseCondition(const std::vector<std::string>& words) {
  const absl::Status bad = Bad(absl::StrJoin(words, " "), kConditionForm);
  const bool is_masked = words.size() == 5 && words[1] == "&" && words[3] == "==";
  if (words.size() != 3 && !is_masked) return bad;
  ArgumentCondition condition;
  const std::string& argument = words[0];
  if (argument.size() != 4 || !argument.starts_with("arg") || argument[3] < '0' ||
      argument[3] >= '0' + hostcalls::kMaxArguments) {
    return Bad(argument, "is not an argument from arg0 to arg5");
  }
  condition.argument = static_cast<std::uint8_t>(argument[3] - '0');
  const std::optional<std::uint64_t> value = ParseNumber(words.back());
  if (!value) return Bad(words.back(), "is not a number, as in 10 or 0x10");
  condition.value = *value;
  if (is_masked) {
    const std::optional<std::uint64_t> mask = ParseNumber(words[2]);
    if (!mask) return Bad(words[2], "is not a number, as in 10 or 0x10");
    if ((*value & ~*mask) != 0) return Bad(words.back(), "has bits that the mask takes away");
    condition.comparison = Comparison::kMaskedEqual;
    condition.mask = *mask;
    return condition;
  }
  const auto* const row = std::ranges::find(kComparisons, words[1], &ComparisonRow::sign);
  if (row == std::end(kComparisons)) return bad;
  condition.comparison = row->comparison;
  return condition;
}

}  // namespace

absl::StatusOr<CallVerdict> ParseVerdict(const std::string& text) {
  constexpr std::string_view kDenyWith = "deny=";
  if (text == "allow") return CallVerdict{};
  if (text == "kill") return CallVerdict{.action = CallAction::kKill};
  if (text == "deny") return CallVerdict{.action = CallAction::kError, .error = EPERM};
  if (!text.starts_with(kDenyWith)) return Bad(text, "is not one of allow, deny, deny=ERRNO, kill");
  const std::string name = text.substr(kDenyWith.size());
  const std::optional<std::uint16_t> error = ErrnoNamed(name);
  if (!error) return Bad(name, "is no name of an error, as EPERM or ENOSYS");
  return CallVerdict{.action = CallAction::kError, .error = *error};
}

absl::StatusOr<CallRuleText> ParseCallRule(const std::string& text) {
  const std::vector<std::string> words =
      absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.size() < 2) return Bad(text, "is not ACTION CALL[,CALL...] [if CONDITION...]");
  CallRuleText rule;
  absl::StatusOr<CallVerdict> verdict = ParseVerdict(words[0]);
  if (!verdict.ok()) return verdict.status();
  rule.verdict = *verdict;
  rule.calls = std::vector<std::string>(absl::StrSplit(words[1], ','));
  for (const std::string& call : rule.calls) {
    if (absl::Status status = CheckCall(call); !status.ok()) return status;
  }
  if (words.size() == 2) return rule;
  if (words[2] != "if") return Bad(words[2], "is not 'if'");
  for (std::size_t begin = 3;;) {
    const auto from = words.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto to = std::find(from, words.end(), "and");
    absl::StatusOr<ArgumentCondition> condition =
        ParseCondition(std::vector<std::string>(from, to));
    if (!condition.ok()) return condition.status();
    rule.conditions.push_back(*condition);
    if (to == words.end()) return rule;
    begin = static_cast<std::size_t>(to - words.begin()) + 1;
  }
}

std::string FormatVerdict(const CallVerdict& verdict) {
  switch (verdict.action) {
    case CallAction::kAllow:
      return "allow";
    case CallAction::kKill:
      return "kill";
    case CallAction::kError:
      break;
  }
  if (verdict.error == EPERM) return "deny";
  const char* const name = strerrorname_np(verdict.error);
  return absl::StrCat("deny=", name == nullptr ? absl::StrCat(verdict.error) : name);
}

std::string FormatCondition(const ArgumentCondition& condition) {
  const std::string value = absl::StrCat("0x", absl::Hex(condition.value));
  const std::string argument = absl::StrCat("arg", condition.argument);
  if (condition.comparison == Comparison::kMaskedEqual) {
    return absl::StrCat(argument, " & 0x", absl::Hex(condition.mask), " == ", value);
  }
  const auto* const row =
      std::ranges::find(kComparisons, condition.comparison, &ComparisonRow::comparison);
  return absl::StrCat(argument, " ", std::string(row->sign), " ", value);
}

}  // namespace dunebox::policy
