// From recorded denials to a policy that would have allowed them: `dunebox policy learn`.
//
// Proposes only what files and the network need, and where to start, in the words of the settings, each rule with why
// it is there: which program used it with which call, how often, and an example. What no rule is
// proposed for is told as a note and stays denied. A person is expected to read the result.
//
//   const Proposal proposal = Propose(denials, surroundings);
//   Write(FormatToml(proposal));
#ifndef DUNEBOX_SANDBOX_POLICY_LEARN_H_
#define DUNEBOX_SANDBOX_POLICY_LEARN_H_

#include <string>
#include <vector>

#include "sandbox/policy/denial_log.h"
#include "sandbox/policy/learn_paths.h"
#include "sandbox/policy/settings.h"

namespace dunebox::policy {

struct ProposedRule {
  Setting setting = Setting::kRead;
  std::string word;  // as the setting takes it
  std::string why;   // one line
};

struct Proposal {
  std::vector<ProposedRule> rules;  // by setting, then as they came
  std::vector<std::string> notes;   // one line each
};

Proposal Propose(const std::vector<LoggedDenial>& denials, const LearnSurroundings& surroundings);

// A policy file, comments included.
std::string FormatToml(const Proposal& proposal);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_LEARN_H_
