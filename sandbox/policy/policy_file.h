// A policy as a TOML file: `--policy FILE`.
//
// Every setting has a key (settings.inc), and what stands there is understood by the same functions
// that understand its flag. Refuses a key that it does not know, a value of another type and a
// value that means nothing, with "FILE:LINE:COLUMN: reason"; the first of them.
//
//   Policy policy;
//   absl::Status status = AddPolicyFile(policy, "policy.toml");
//   // "policy.toml:3:1: unknown key 'files.raed'; did you mean 'files.read'?"
#ifndef DUNEBOX_SANDBOX_POLICY_POLICY_FILE_H_
#define DUNEBOX_SANDBOX_POLICY_POLICY_FILE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

inline constexpr std::size_t kMostPolicyBytes = std::size_t{1} << 20;

// After a failure `policy` may have some of its rules.
absl::Status AddPolicyFile(Policy& policy, const std::string& path);
// `name` stands for the file in messages and origins.
absl::Status AddPolicyText(Policy& policy, std::string_view text, const std::string& name);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_POLICY_FILE_H_
