// Rules by name: `--allow=NAME` for common jobs, and the default policy.
//
//   AddDefaults(policy);                    // origin "default"
//   AddPreset(policy, "python");            // origin "preset python"; false: there is none
#ifndef DUNEBOX_SANDBOX_POLICY_PRESETS_H_
#define DUNEBOX_SANDBOX_POLICY_PRESETS_H_

#include <string>
#include <string_view>
#include <vector>

#include "sandbox/policy/policy.h"

namespace dunebox::policy {

// The caller's rights; no preset with rules, but a name that --allow takes.
inline constexpr std::string_view kAllowAll = "all";

// What --allow takes, kAllowAll first.
std::vector<std::string_view> PresetNames();
bool AddPreset(Policy& policy, std::string_view name);
void AddDefaults(Policy& policy);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_PRESETS_H_
