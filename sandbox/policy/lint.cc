#include "sandbox/policy/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "sandbox/policy/compile.h"
#include "sandbox/policy/lint_parts.h"
#include "sandbox/policy/mechanisms.h"

namespace dunebox::policy {
namespace {

// In the names of variables that programs are given passwords and keys with.
constexpr std::string_view kSecretWords[] = {"TOKEN",   "SECRET",     "PASSWORD",  "PASSWD",
                                             "API_KEY", "CREDENTIAL", "ACCESS_KEY"};

void LintEnvironment(const Policy& policy, std::vector<Finding>& findings) {
  for (const EnvironmentRule& rule : policy.environment) {
    if (IsBuiltIn(rule.origin)) continue;
    if (rule.entry == "*") {
      findings.push_back({FindingKind::kTooWide, rule.origin,
                          "passes the whole environment, tokens and keys included",
                          "name the variables that are needed"});
    }
    std::string name = rule.entry.substr(0, rule.entry.find('='));
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    const bool is_secret = std::ranges::any_of(
        kSecretWords, [&](std::string_view word) { return name.find(word) != std::string::npos; });
    if (is_secret && HasWayOut(policy)) {
      findings.push_back({FindingKind::kTooWide, rule.origin,
                          fmt::format("{} can be read and sent away over the network", name),
                          "leave it out, or allow no network"});
    }
  }
}

void LintMechanisms(const Policy& policy, const LintSurroundings& surroundings,
                    std::vector<Finding>& findings) {
  const auto need = [&](confinement::Mechanism mechanism, const OriginText& origin,
                        std::string_view what) {
    const auto& missing = surroundings.missing;
    if (std::ranges::find(missing, mechanism) == missing.end()) return;
    findings.push_back(
        {FindingKind::kNotHere, origin,
         fmt::format("{} {}, which this machine does not give", what, NameOf(mechanism)),
         "dunebox doctor says why"});
  };
  using confinement::Mechanism;
  if (policy.hostname) {
    need(Mechanism::kUtsNamespace, policy.hostname->origin, "a host name of its own needs");
  }
  if (policy.uid) {
    need(Mechanism::kUserNamespace, policy.uid->origin, "another user's number needs");
  }
  if (policy.gid) {
    need(Mechanism::kUserNamespace, policy.gid->origin, "another group's number needs");
  }
  for (const RequiredMechanism& required : policy.required) {
    if (required.mechanism) need(*required.mechanism, required.origin, "demands");
  }
}

}  // namespace

std::vector<Finding> Lint(const Policy& stated, const LintSurroundings& surroundings) {
  std::vector<Finding> findings;
  if (stated.allow_all) {
    findings.push_back({FindingKind::kTooWide, *stated.allow_all,
                        "the program gets all rights of the caller", "name what it needs"});
    if (stated.HasRules()) {
      findings.push_back({FindingKind::kContradiction, *stated.allow_all,
                          "everything is allowed, and there are rules about what is allowed",
                          "remove one of the two"});
    }
    return findings;
  }
  const Policy policy = Effective(stated);
  LintFiles(policy, surroundings, findings);
  LintNetwork(policy, surroundings, findings);
  LintCalls(policy, findings);
  LintEnvironment(policy, findings);
  LintMechanisms(policy, surroundings, findings);
  if (policy.audit) {
    findings.push_back({FindingKind::kContradiction, *policy.audit,
                        "with audit every rule is only reported and nothing is denied",
                        "remove it when the policy is ready"});
  }
  return findings;
}

std::string Format(const Finding& finding) {
  std::string text = fmt::format("{}: warning: {}", finding.origin, finding.reason);
  if (!finding.suggestion.empty()) text += fmt::format(" ({})", finding.suggestion);
  return text;
}

}  // namespace dunebox::policy
