// Feeds arbitrary bytes to the importer of OCI seccomp sections and holds what it accepts to what
// the walls rely on; what can be exported has to mean the same when it is imported again.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hostcalls/table/table.h"
#include "sandbox/policy/oci_seccomp.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::ArgumentCondition;
using hostcalls::policy::CallAction;
using hostcalls::policy::CallRule;

constexpr std::string_view kName = "p.json";

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "accepted section violates: %s\n", what);
  std::abort();
}

void CheckRules(const CallRules& rules) {
  Require(std::ranges::is_sorted(rules.rules, {}, &CallRule::number), "sorted by number");
  for (const CallRule& rule : rules.rules) {
    Require(hostcalls::FindRow(std::uint64_t{rule.number}) != nullptr, "calls of the table");
    Require(rule.origin < rules.origins.size(), "an origin");
    Require(rule.error >= 1 && rule.error <= 4095, "an errno");
    for (const ArgumentCondition& condition : rule.conditions) {
      Require(condition.argument < 6, "an argument");
    }
  }
  for (const std::string& note : rules.notes) {
    Require(note.starts_with(kName), "a note says where");
    Require(std::ranges::all_of(note, [](char c) { return c >= ' ' && c <= '~'; }),
            "a note does nothing to a terminal");
  }
}

struct Verdict {
  CallAction action;
  std::uint16_t error;
  bool operator==(const Verdict& other) const {
    return action == other.action && (action != CallAction::kError || error == other.error);
  }
};

Verdict Decide(const CallRules& rules, std::uint16_t number,
               std::span<const std::uint64_t> values) {
  for (const CallRule& rule : rules.rules) {
    if (rule.number != number) continue;
    if (std::ranges::all_of(rule.conditions, [&](const ArgumentCondition& condition) {
          return Holds(condition, values[condition.argument]);
        })) {
      return {rule.action, rule.error};
    }
  }
  return {rules.default_action, rules.default_error};
}

// At the values that the conditions of a call name, and beside them.
void CheckSameMeaning(const CallRules& one, const CallRules& other) {
  std::set<std::uint16_t> numbers = {0};
  std::set<std::uint64_t> values = {0, ~std::uint64_t{0}};
  constexpr std::size_t kMostValues = 32, kMostNumbers = 16;
  for (const CallRule& rule : one.rules) {
    if (numbers.size() < kMostNumbers) numbers.insert(rule.number);
    for (const ArgumentCondition& condition : rule.conditions) {
      if (values.size() >= kMostValues) break;
      values.insert({condition.value, condition.value + 1, condition.value - 1,
                     condition.value | ~condition.mask});
    }
  }
  for (const std::uint16_t number : numbers) {
    for (const std::uint64_t value : values) {
      for (const std::uint64_t beside : {std::uint64_t{0}, value}) {
        const std::array<std::uint64_t, 6> arguments = {value,  beside, value,
                                                        beside, value,  beside};
        Require(Decide(one, number, arguments) == Decide(other, number, arguments),
                "exported, it means the same");
      }
    }
  }
}

void Import(std::string_view text) {
  const OciContext context{.capabilities = {"CAP_SYS_CHROOT"}};
  const absl::StatusOr<CallRules> rules = ImportOciSeccomp(text, kName, context);
  if (!rules.ok()) {
    const std::string message(rules.status().message());
    Require(message.starts_with(kName), "an error says where");
    Require(rules.status().code() == absl::StatusCode::kInvalidArgument, "the text's fault");
    return;
  }
  CheckRules(*rules);
  const absl::StatusOr<std::string> exported = ExportOciSeccomp(*rules);
  if (!exported.ok()) {
    return Require(exported.status().code() == absl::StatusCode::kUnimplemented, "no words for it");
  }
  const absl::StatusOr<CallRules> again = ImportOciSeccomp(*exported, kName, context);
  Require(again.ok(), "what was exported can be imported");
  Require(again->notes.empty(), "and has nothing odd in it");
  CheckSameMeaning(*rules, *again);
}

}  // namespace
}  // namespace dunebox::policy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::policy::Import({reinterpret_cast<const char*>(data), size});
  return 0;
}
