// The mechanisms of the second wall by the names that --require takes.
//
//   std::optional<confinement::Mechanism> mechanism = MechanismNamed("landlock");
#ifndef DUNEBOX_SANDBOX_POLICY_MECHANISMS_H_
#define DUNEBOX_SANDBOX_POLICY_MECHANISMS_H_

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "runtime/confinement/plan.h"

namespace dunebox::policy {

// All of them that the policy at hand has a use for; cgroups, which only help with limits, excepted.
inline constexpr std::string_view kSecondWall = "wall2";

struct MechanismRow {
  confinement::Mechanism mechanism;
  std::string_view name;
};

inline constexpr std::array<MechanismRow, confinement::kMechanismCount> kMechanisms = {{
    {confinement::Mechanism::kSeccomp, "seccomp"},
    {confinement::Mechanism::kLandlock, "landlock"},
    {confinement::Mechanism::kUserNamespace, "user-namespace"},
    {confinement::Mechanism::kMountNamespace, "mount-namespace"},
    {confinement::Mechanism::kPidNamespace, "pid-namespace"},
    {confinement::Mechanism::kNetworkNamespace, "network-namespace"},
    {confinement::Mechanism::kIpcNamespace, "ipc-namespace"},
    {confinement::Mechanism::kUtsNamespace, "uts-namespace"},
    {confinement::Mechanism::kCgroup, "cgroup"},
}};

constexpr std::optional<confinement::Mechanism> MechanismNamed(std::string_view name) {
  const auto* row = std::ranges::find(kMechanisms, name, &MechanismRow::name);
  if (row == kMechanisms.end()) return std::nullopt;
  return row->mechanism;
}

constexpr std::string_view NameOf(confinement::Mechanism mechanism) {
  return std::ranges::find(kMechanisms, mechanism, &MechanismRow::mechanism)->name;
}

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_MECHANISMS_H_
