// Who a process is inside a user namespace, and the name of its machine.
//
// Exactly one user and one group are mapped: the caller's own, under the numbers asked for. That is
// what the kernel lets anybody do; with it nobody can become anyone else, and set-user-id files of
// others are without effect. setgroups is given up before, as the kernel demands.
//
//   unshare(CLONE_NEWUSER);
//   absl::Status status = MapCaller(caller, {.uid = 0, .gid = 0});
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_IDENTITY_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_IDENTITY_H_

#include <sys/types.h>

#include "absl/status/status.h"
#include "runtime/confinement/plan.h"

namespace dunebox::confinement {

struct UserAndGroup {
  uid_t uid;
  gid_t gid;

  // The effective ones of this process.
  static UserAndGroup Current();
};

// In a process that has just entered a new user namespace: `outside` is who it was before. Needs
// /proc.
absl::Status MapCaller(const UserAndGroup& outside, const UserAndGroup& inside);

// Does the plan ask for another user or group than the caller's?
bool AsksForIdentity(const Identity& identity, const UserAndGroup& caller);
// Who the program is for itself.
UserAndGroup IdentityOf(const Identity& identity, const UserAndGroup& caller);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_IDENTITY_H_
