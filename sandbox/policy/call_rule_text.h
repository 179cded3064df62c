// A rule about system calls as people write it:
//
//   ACTION CALL[,CALL...] [if CONDITION [and CONDITION]...]
//
// ACTION is allow, deny (the call fails with EPERM), deny=ERRNO or kill. CALL is a name or a group,
// "@network". CONDITION compares an argument, counted from 0 and taken as 64 bits, with a number:
// arg1 == 0x5401, also !=, <, <=, >, >=, and arg2 & 0x4 == 0x4. Refuses whatever else.
//
//   absl::StatusOr<CallRuleText> rule = ParseCallRule("deny=ENOSYS ioctl if arg1 == 0x5412");
#ifndef DUNEBOX_SANDBOX_POLICY_CALL_RULE_TEXT_H_
#define DUNEBOX_SANDBOX_POLICY_CALL_RULE_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/policy/rules.h"

namespace dunebox::policy {

struct CallVerdict {
  hostcalls::policy::CallAction action = hostcalls::policy::CallAction::kAllow;
  std::uint16_t error = 1;  // errno, with kError
};

struct CallRuleText {
  CallVerdict verdict;
  std::vector<std::string> calls;  // names and groups that exist
  std::vector<hostcalls::policy::ArgumentCondition> conditions;
};

absl::StatusOr<CallVerdict> ParseVerdict(const std::string& text);
absl::StatusOr<CallRuleText> ParseCallRule(const std::string& text);
// The same words again.
std::string FormatVerdict(const CallVerdict& verdict);
std::string FormatCondition(const hostcalls::policy::ArgumentCondition& condition);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_CALL_RULE_TEXT_H_
