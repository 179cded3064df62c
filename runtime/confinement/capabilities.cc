#include "runtime/confinement/capabilities.h"

#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace dunebox::confinement {
namespace {

constexpr std::uint16_t kFirstUnprivilegedPort = 1024;
constexpr Capabilities BitOf(int capability) { return Capabilities{1} << capability; }

// The kernel's form: two words of 32 bits each.
struct Sets {
  Capabilities effective = 0, permitted = 0, inheritable = 0;
};
using Words = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

absl::StatusOr<Sets> Get() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  Words words{};
  if (syscall(SYS_capget, &header, words.data()) != 0) return absl::ErrnoToStatus(errno, "capget");
  const auto join = [&](auto member) {
    return Capabilities{words[0].*member} | Capabilities{words[1].*member} << 32;
  };
  return Sets{.effective = join(&__user_cap_data_struct::effective),
              .permitted = join(&__user_cap_data_struct::permitted),
              .inheritable = join(&__user_cap_data_struct::inheritable)};
}

absl::Status Set(const Sets& sets) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  Words words{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto part = [&](Capabilities set) { return static_cast<std::uint32_t>(set >> (32 * i)); };
    words[i] = {.effective = part(sets.effective),
                .permitted = part(sets.permitted),
                .inheritable = part(sets.inheritable)};
  }
  return syscall(SYS_capset, &header, words.data()) == 0 ? absl::OkStatus()
                                                         : absl::ErrnoToStatus(errno, "capset");
}

// What execve could give back to root. Only who has CAP_SETPCAP may take from it; for anybody else
// no_new_privs does the same.
absl::Status ShrinkBoundingSet(Capabilities kept) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    if ((kept & BitOf(capability)) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability) != 0) {
      return absl::ErrnoToStatus(errno, "cannot give up a capability");
    }
  }
  return absl::OkStatus();
}

}  // namespace

Capabilities KeptCapabilities(const Plan& plan) {
  const bool binds_low = std::ranges::any_of(
      plan.bind_ports, [](std::uint16_t port) { return port != 0 && port < kFirstUnprivilegedPort; });
  return plan.kept_capabilities | (binds_low ? BitOf(CAP_NET_BIND_SERVICE) : 0);
}

absl::Status DropPrivileges(Capabilities kept) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return absl::ErrnoToStatus(errno, "cannot set no_new_privs");
  }
  // Where there are no keys, or the host forbids them, there is nothing to leave behind.
  (void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
  absl::StatusOr<Sets> sets = Get();
  if (!sets.ok()) return sets.status();
  if ((sets->effective & BitOf(CAP_SETPCAP)) != 0) {
    if (absl::Status status = ShrinkBoundingSet(kept); !status.ok()) return status;
  }
  // Inheritable too: what root is given by execve is no more than that and the bounding set.
  const Capabilities left = sets->permitted & kept;
  if (absl::Status status = Set({.effective = left, .permitted = left, .inheritable = left});
      !status.ok()) {
    return status;
  }
  return ForbidDumps();
}

absl::StatusOr<Capabilities> PermittedCapabilities() {
  absl::StatusOr<Sets> sets = Get();
  if (!sets.ok()) return sets.status();
  return sets->permitted;
}

absl::Status ForbidDumps() {
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
             ? absl::OkStatus()
             : absl::ErrnoToStatus(errno, "cannot forbid tracing this process");
}

}  // namespace dunebox::confinement
