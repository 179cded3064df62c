// The `linux.seccomp` section of an OCI runtime configuration, from and to our call rules.
//
// Reads a whole config.json, its seccomp section alone, or a profile as container engines keep it
// (archMap, and entries with `includes` and `excludes`), and gives its rules the meaning that
// they have there:
//   - an entry whose action is the default's has no effect;
//   - an entry without arguments decides over those with arguments, wherever it stands;
//   - two conditions on one argument are alternatives, conditions on several hold together;
//   - `index`, `value`, `valueTwo` of SCMP_CMP_MASKED_EQ: (argument & value) == valueTwo.
// Refuses actions that need somebody who watches (TRAP, TRACE, NOTIFY). A call that the table does
// not know is a note and not an error: profiles name calls of every machine.
//
//   absl::StatusOr<CallRules> rules = ImportOciSeccomp(text, "default.json", OciContext{});
//   // "default.json: /syscalls/3/args/0/op: unknown comparison \"SCMP_CMP_ALMOST\""
#ifndef DUNEBOX_SANDBOX_POLICY_OCI_SECCOMP_H_
#define DUNEBOX_SANDBOX_POLICY_OCI_SECCOMP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/policy/rules.h"

namespace dunebox::policy {

// What `includes` and `excludes` ask about.
struct OciContext {
  std::vector<std::string> capabilities;         // that the program will have: "CAP_SYS_CHROOT"
  unsigned kernel_major = 6, kernel_minor = 18;  // of the table, which is what programs meet
};

// The part of Rules that is about system calls.
struct CallRules {
  hostcalls::policy::CallAction default_action = hostcalls::policy::CallAction::kAllow;
  std::uint16_t default_error = 1;
  std::vector<hostcalls::policy::CallRule> rules;  // sorted by number, stable
  std::vector<std::string> origins;                // what CallRule::origin counts in
  std::vector<std::string> notes;                  // "FILE: PLACE: what was left out and why"
};

absl::StatusOr<CallRules> ImportOciSeccomp(std::string_view text, std::string_view file,
                                           const OciContext& context);

// The section alone, as engines take it for a profile. Fails for rules that it has no words for,
// such as an exception in front of a rule, rather than write other rules.
absl::StatusOr<std::string> ExportOciSeccomp(const CallRules& rules);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_OCI_SECCOMP_H_
