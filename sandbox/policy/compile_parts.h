// The parts of Compile, one for each matter.
#ifndef DUNEBOX_SANDBOX_POLICY_COMPILE_PARTS_H_
#define DUNEBOX_SANDBOX_POLICY_COMPILE_PARTS_H_

#include <string>

#include "absl/status/status.h"
#include "hostcalls/policy/rules.h"
#include "runtime/confinement/plan.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

// The index of `text` in the origins of `rules`, which it is added to when it is new.
hostcalls::policy::Origin OriginOf(hostcalls::policy::Rules& rules, const OriginText& text);

// "ORIGIN: reason".
absl::Status At(const OriginText& origin, const absl::Status& status);

// `program`: as PATH was searched, absolute; empty when there is none.
absl::Status CompileFiles(const Policy& policy, const Surroundings& surroundings,
                          const std::string& program, hostcalls::policy::Rules& rules,
                          confinement::Plan& plan);
absl::Status CompileNetwork(const Policy& policy, const HostLookup& lookup,
                            hostcalls::policy::Rules& rules, confinement::Plan& plan);
absl::Status CompileCalls(const Policy& policy, hostcalls::policy::Rules& rules);

// Absolute, without "." and "..": as the words say, no link is followed. "~/" is the caller's home.
std::string AbsolutePath(const std::string& path, const Surroundings& surroundings);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_COMPILE_PARTS_H_
