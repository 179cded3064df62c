// Feeds arbitrary bytes to the reader of policy files. What is refused is refused with a place and
// a reason; what is accepted can be looked at by everything that looks at policies.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sandbox/policy/call_groups.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/lint.h"
#include "sandbox/policy/policy_file.h"

namespace dunebox::policy {
namespace {

constexpr std::string_view kName = "p.toml:";

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "policy file violates: %s\n", what);
  std::abort();
}

// "p.toml:LINE..."
bool HasPlace(std::string_view text) {
  return text.starts_with(kName) && text.size() > kName.size() && text[kName.size()] >= '1' &&
         text[kName.size()] <= '9';
}

bool IsOrigin(std::string_view text) { return HasPlace(text) || text.starts_with("preset "); }

void CheckPolicy(const Policy& policy) {
  for (const FileRule& rule : policy.files) {
    Require(IsOrigin(rule.origin), "a file rule says where it is from");
    Require(rule.target.empty() || rule.target.front() == '/', "a target is absolute");
    Require(rule.kind == TreeKind::kTmpfs || !rule.source.empty(), "a file rule names a file");
  }
  for (const NetworkRule& rule : policy.network) {
    Require(IsOrigin(rule.origin), "a network rule says where it is from");
    Require(rule.first_port <= rule.last_port, "ports are in order");
  }
  for (const CallRule& rule : policy.calls) {
    Require(IsOrigin(rule.origin), "a call rule says where it is from");
    Require(CallsNamed(rule.calls).has_value(), "a call rule names calls");
    for (const auto& condition : rule.conditions) Require(condition.argument < 6, "an argument");
  }
  for (const Finding& finding : Lint(policy, {.home = "/home/ann", .directory = "/srv"})) {
    Require(!finding.reason.empty() && !finding.origin.empty(), "a finding has place and reason");
  }
}

void Read(std::string_view text) {
  Policy policy;
  const absl::Status status = AddPolicyText(policy, text, "p.toml");
  if (status.ok()) return CheckPolicy(policy);
  Require(HasPlace(std::string(status.message())), "an error says where");
}

}  // namespace
}  // namespace dunebox::policy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::policy::Read({reinterpret_cast<const char*>(data), size});
  return 0;
}
