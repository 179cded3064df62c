// The privileges that a confined session gives up for good, before its program runs. [DESIGN D6]
//
// All capabilities, also those that a program started by root would get back, but for those that the
// plan names, and one that its own words need: binding a TCP port below 1024. no_new_privs: nothing that is executed gains
// any. Not dumpable: no process of the same user traces this one, reads its memory or its /proc
// files. A session keyring of its own: the caller's keys are out of reach.
//
//   if (absl::Status status = DropPrivileges(KeptCapabilities(plan)); !status.ok()) return status;
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_CAPABILITIES_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_CAPABILITIES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/confinement/plan.h"

namespace dunebox::confinement {

// One bit a capability.
using Capabilities = std::uint64_t;

Capabilities KeptCapabilities(const Plan& plan);
// Of the calling thread, which has to be the process's only one. What it never had it does not get.
absl::Status DropPrivileges(Capabilities kept);
// What the calling thread could make effective.
absl::StatusOr<Capabilities> PermittedCapabilities();
// execve makes a process dumpable again.
absl::Status ForbidDumps();

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_CAPABILITIES_H_
