// The mechanisms of wall 2 by name, sets of them, and why a plan cannot do without one.
//
// A mechanism that the machine does not give is left out, because wall 1 forbids the same; but not
// when it is required, and not when what the plan shows would be another thing without it.
//
//   if (std::optional<std::string> need = NeedFor(plan, Mechanism::kMountNamespace)) ...
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_MECHANISMS_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_MECHANISMS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "runtime/confinement/plan.h"

namespace dunebox::confinement {

// "mount namespace"
std::string_view NameOf(Mechanism mechanism);

class MechanismSet {
 public:
  void Add(Mechanism mechanism) { bits_ |= Bit(mechanism); }
  bool Has(Mechanism mechanism) const { return (bits_ & Bit(mechanism)) != 0; }

 private:
  static std::uint32_t Bit(Mechanism mechanism) {
    return std::uint32_t{1} << static_cast<unsigned>(mechanism);
  }
  std::uint32_t bits_ = 0;
};

// What for, in words: "for a tmpfs at /tmp". Nothing when the plan can do without.
std::optional<std::string> NeedFor(const Plan& plan, Mechanism mechanism);

// OK when the plan can do without `mechanism`, which this machine does not give because of
// `reason`; else why not, and what to do about it.
absl::Status LeaveOut(const Plan& plan, Mechanism mechanism, const absl::Status& reason);

// What an administrator has to do so that this user can make namespaces.
std::string NamespaceAdvice(const std::string& sysctl_directory);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_MECHANISMS_H_
