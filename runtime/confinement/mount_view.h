// The file system as the plan shows it: nothing but the plan's mounts, and the root read-only.
//
// A source is opened once, without following a link anywhere in its name, and bound by that
// descriptor: what the name leads to later does not matter. Binds lose set-user-id programs and
// device nodes; one that is itself a device keeps being one. /proc is there whether the plan names
// it or not, because the runtime lives on it: what the program may see of it is for wall 1. Its
// parts that change the machine are read-only, and a few that tell much of it cannot be opened.
//
//   // In a mount namespace of one's own, in the session's pid namespace:
//   absl::Status status = BuildMountView(plan.mounts, ProcSource::kOwnNamespace);
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_MOUNT_VIEW_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_MOUNT_VIEW_H_

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "runtime/confinement/plan.h"

namespace dunebox::confinement {

enum class ProcSource : unsigned char {
  kOwnNamespace,  // mounted anew: shows the pid namespace of the process that mounts it
  kHost,          // the host's: there is no pid namespace
};

// Does a bind before it show the same, with the same flags, at the same place? Each mount takes
// time.
bool IsShownAlready(std::span<const Mount> before, const Mount& mount);

// The old root is gone afterwards; the current directory is the new one.
absl::Status BuildMountView(const std::vector<Mount>& mounts, ProcSource proc);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_MOUNT_VIEW_H_
