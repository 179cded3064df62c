// A policy as a file: `--policy FILE`. A name that ends with ".json" is that of an OCI seccomp profile
// (oci_seccomp.h), which has rules about system calls and nothing else; every other file is TOML.
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
#include <vector>

#include "absl/status/status.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

inline constexpr std::size_t kMostPolicyBytes = std::size_t{1} << 20;

// After a failure `policy` may have some of its rules. `notes`, where somebody wants them: what of an
// OCI profile was left out, and why.
absl::Status AddPolicyFile(Policy& policy, const std::string& path,
                           std::vector<std::string>* notes = nullptr);
// `name` stands for the file in messages and origins.
absl::Status AddPolicyText(Policy& policy, std::string_view text, const std::string& name);
absl::Status AddOciText(Policy& policy, std::string_view text, const std::string& name,
                        std::vector<std::string>* notes = nullptr);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_POLICY_FILE_H_
