// From a policy to what the two walls check: the rules, the plan and the rest of a session.
//
// This is where names meet the machine: files are looked up and links followed, host names are
// resolved (once, before the program runs), the program is searched. Something a user names that is
// not there, or two rules that contradict each other, is an error with the rule's origin in front.
//
//   runtime::SessionOptions session{.program = "ls", .arguments = {"ls"}};
//   absl::Status status = Compile(policy, CallersSurroundings(), session);
#ifndef DUNEBOX_SANDBOX_POLICY_COMPILE_H_
#define DUNEBOX_SANDBOX_POLICY_COMPILE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/session.h"
#include "sandbox/policy/hosts.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

// What a policy refers to without naming it.
struct Surroundings {
  std::string directory;                 // the current one; absolute
  std::vector<std::string> environment;  // "K=V"
  HostLookup lookup;
};

Surroundings CallersSurroundings();

// `stated` on top of the default policy, or `stated` itself when it is the rights of the caller.
Policy Effective(const Policy& stated);

// Of `session` program and arguments have to be there, all else that a policy decides is set. A
// policy without allow_all has to be an effective one.
absl::Status Compile(const Policy& policy, const Surroundings& surroundings,
                     runtime::SessionOptions& session);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_COMPILE_H_
