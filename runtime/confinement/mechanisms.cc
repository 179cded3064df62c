#include "runtime/confinement/mechanisms.h"

#include <algorithm>
#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "runtime/confinement/identity.h"
#include "runtime/text_file.h"

namespace dunebox::confinement {
namespace {

constexpr std::array<std::string_view, kMechanismCount> kNames = {
    "seccomp",           "Landlock",      "user namespace", "mount namespace", "pid namespace",
    "network namespace", "ipc namespace", "uts namespace",  "cgroup"};

// Without a mount namespace everything is where the host has it.
std::optional<std::string> NeedForMounts(const Plan& plan) {
  for (const Mount& mount : plan.mounts) {
    if (mount.kind == MountKind::kTmpfs) return absl::StrCat("for a tmpfs at ", mount.target);
    if (mount.kind == MountKind::kBind && mount.source != mount.target) {
      return absl::StrCat("to show ", mount.source, " at ", mount.target);
    }
  }
  return std::nullopt;
}

bool Is(const std::string& sysctl, int value) {
  const absl::StatusOr<std::string> text = runtime::ReadTextFile(sysctl);
  int number = 0;
  return text.ok() && absl::SimpleAtoi(*text, &number) && number == value;
}

}  // namespace

std::string_view NameOf(Mechanism mechanism) { return kNames[static_cast<unsigned>(mechanism)]; }

std::optional<std::string> NeedFor(const Plan& plan, Mechanism mechanism) {
  if (std::find(plan.required.begin(), plan.required.end(), mechanism) != plan.required.end()) {
    return "since it is required";
  }
  switch (mechanism) {
    case Mechanism::kMountNamespace:
      return NeedForMounts(plan);
    case Mechanism::kUserNamespace:
      if (!AsksForIdentity(plan.identity, UserAndGroup::Current())) return std::nullopt;
      return "for another user or group id";
    case Mechanism::kUtsNamespace:
      if (plan.identity.hostname.empty()) return std::nullopt;
      return absl::StrCat("for the host name ", plan.identity.hostname);
    case Mechanism::kSeccomp:
    case Mechanism::kLandlock:
    case Mechanism::kPidNamespace:
    case Mechanism::kNetworkNamespace:
    case Mechanism::kIpcNamespace:
    case Mechanism::kCgroup:
      return std::nullopt;
  }
  return std::nullopt;
}

absl::Status LeaveOut(const Plan& plan, Mechanism mechanism, const absl::Status& reason) {
  const std::optional<std::string> need = NeedFor(plan, mechanism);
  if (!need) return absl::OkStatus();
  return errors::Named(
      errors::Id::kMechanismNeeded,
      absl::UnavailableError(absl::StrCat("a ", std::string(NameOf(mechanism)), " is needed ", *need,
                                          ", and cannot be had here: ", reason.message(),
                                          "; see dunebox doctor")));
}

std::string NamespaceAdvice(const std::string& sysctl_directory) {
  if (Is(sysctl_directory + "/kernel/unprivileged_userns_clone", 0)) {
    return "as root: sysctl -w kernel.unprivileged_userns_clone=1";
  }
  if (Is(sysctl_directory + "/user/max_user_namespaces", 0)) {
    return "as root: sysctl -w user.max_user_namespaces=10000";
  }
  if (Is(sysctl_directory + "/kernel/apparmor_restrict_unprivileged_userns", 1)) {
    return "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
  }
  return "a container's seccomp profile or a security module forbids it: relax that";
}

}  // namespace dunebox::confinement
