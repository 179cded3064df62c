#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/seccomp.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/doctor/checks.h"
#include "runtime/jit/isolation_choice.h"

namespace dunebox::doctor {
namespace {

// What an older Landlock leaves to the first wall, and the version that has it.
struct LandlockStep {
  int version;
  std::string_view checks;
};
constexpr LandlockStep kLandlockSteps[] = {
    {3, "truncating files"},
    {4, "TCP ports"},
    {5, "ioctls of devices"},
    {6, "signals and abstract sockets"},
};

}  // namespace

Check CheckIsolations(const Host& host) {
  Check check{.name = "isolation of jit"};
  std::vector<std::string> offered, missing;
  for (const jit::IsolationName& row : jit::kIsolationNames) {
    if (row.isolation == jit::Isolation::kNone) continue;
    const absl::Status status = host.isolation(row.isolation);
    if (status.ok()) {
      offered.emplace_back(row.name);
    } else {
      missing.push_back(fmt::format("not {}: {}", row.name, std::string(status.message())));
    }
  }
  const absl::StatusOr<jit::Isolation> chosen =
      runtime::ChooseIsolation(std::nullopt, host.isolation);
  if (!chosen.ok()) {
    check.state = State::kMissing;
    check.found = std::string(chosen.status().message());
    check.advice = "use engine kvm, or a processor with BMI2";
    return check;
  }
  check.found = fmt::format("{}; offered: {}", NameOf(*chosen), fmt::join(offered, ", "));
  for (const std::string& reason : missing) check.found += "; " + reason;
  return check;
}

Check CheckPrepared(const Host& host) {
  Check check{.name = "prepared code"};
  std::vector<std::string> fit, unfit;
  for (const jit::IsolationName& row : jit::kIsolationNames) {
    const absl::StatusOr<std::uint32_t> blocks = host.prepared(row.isolation);
    if (blocks.ok()) {
      fit.push_back(fmt::format("{}: {} blocks", row.name, *blocks));
    } else if (!absl::IsNotFound(blocks.status())) {
      unfit.emplace_back(blocks.status().message());
    }
  }
  if (!unfit.empty()) {
    check.state = State::kWarning;
    check.found = fmt::format("not used: {}", fmt::join(unfit, "; "));
    check.advice = "programs are translated anew each time they run; as root: dunebox prepare";
  } else if (fit.empty()) {
    check.found = "none; what 'dunebox prepare PROG' makes lets programs start sooner";
  } else {
    check.found = fmt::format("{}", fmt::join(fit, ", "));
  }
  return check;
}

Check CheckProtectionKeys(const Host& host) {
  Check check{.name = "protection keys"};
  const int result = host.protection_key();
  if (result == 0) {
    check.found = "available";
    return check;
  }
  check.state = State::kWarning;
  check.found = result == -ENOSPC ? "all taken" : "not offered by this processor and kernel";
  check.advice = "nothing to do: engine jit isolates code without them, more slowly";
  return check;
}

Check CheckLandlock(const Host& host) {
  Check check{.name = "Landlock"};
  const int abi = host.landlock_abi();
  if (abi > 0) {
    check.found = fmt::format("ABI version {}", abi);
    std::vector<std::string_view> left;
    for (const LandlockStep& step : kLandlockSteps) {
      if (abi < step.version) left.push_back(step.checks);
    }
    if (left.empty()) return check;
    check.state = State::kWarning;
    check.found += fmt::format(", without {}: the first wall alone checks these", fmt::join(left, ", "));
    check.advice = "use Linux 6.12 or newer";
    return check;
  }
  check.state = State::kWarning;
  if (abi == -EOPNOTSUPP) {
    check.found = "in the kernel, but not enabled";
    check.advice = "add landlock to the list of 'lsm=' on the kernel command line";
  } else {
    check.found = fmt::format("not in the kernel: {}", std::strerror(-abi));
    check.advice = "use Linux 5.13 or newer built with CONFIG_SECURITY_LANDLOCK";
  }
  return check;
}

Check CheckUserNamespaces(const Host& host) {
  Check check{.name = "user namespaces"};
  const int result = host.user_namespace();
  if (result == 0) {
    check.found = "this user can make one";
    return check;
  }
  check.state = State::kWarning;
  check.found = fmt::format("this user cannot make one: {}", std::strerror(-result));
  check.advice = confinement::NamespaceAdvice(host.sysctl_directory);
  return check;
}

Check CheckNamespace(const Host& host, const absl::StatusOr<confinement::MechanismSet>& possible,
                     confinement::Mechanism mechanism) {
  Check check{.name = std::string(NameOf(mechanism)), .found = "a session can have one"};
  if (possible.ok() && possible->Has(mechanism)) return check;
  check.state = State::kWarning;
  if (possible.ok()) {
    check.found = "the kernel refuses to make one";
    check.advice = "use a kernel that has it, and look at the limits in /proc/sys/user";
  } else {
    check.found = fmt::format("cannot be had: {}", std::string(possible.status().message()));
    check.advice = confinement::NamespaceAdvice(host.sysctl_directory);
  }
  return check;
}

Check CheckSeccomp(const Host& host) {
  struct Action {
    std::string_view name;
    std::uint32_t value;
  };
  constexpr std::array<Action, 4> kActions = {{
      {"kill_process", SECCOMP_RET_KILL_PROCESS},
      {"trap", SECCOMP_RET_TRAP},
      {"errno", SECCOMP_RET_ERRNO},
      {"user_notif", SECCOMP_RET_USER_NOTIF},
  }};
  std::vector<std::string_view> present;
  std::vector<std::string_view> absent;
  for (const Action& action : kActions) {
    (host.seccomp_action(action.value) == 0 ? present : absent).push_back(action.name);
  }
  Check check{.name = "seccomp", .found = fmt::format("filters: {}", fmt::join(present, " "))};
  if (present.empty()) {
    check.found = "no filters";
    check.advice = "use a kernel built with CONFIG_SECCOMP_FILTER";
  } else if (!absent.empty()) {
    check.found += fmt::format("; absent: {}", fmt::join(absent, " "));
    check.advice = "use Linux 5.0 or newer";
  }
  if (!absent.empty()) check.state = State::kWarning;
  return check;
}

Check CheckDefaultRights() {
  return {.name = "default rights",
          .found = "read the system's directories, write nothing, no network; 'dunebox policy "
                   "explain' says it all"};
}

}  // namespace dunebox::doctor
