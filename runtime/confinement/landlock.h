// Which files, TCP ports, abstract sockets and processes the kernel lets this session reach:
// Landlock, by the version that the kernel has. [DESIGN D6] [linux Documentation/userspace-api/landlock]
//
// From the same rules as wall 1. Wider than these in what Landlock cannot say: it only ever adds
// rights, so a rule that takes rights away below a tree that somebody has is wall 1's (and the mount
// namespace's) alone; a file that may be executed may be read, because the runtime reads it; looking
// at names and at their attributes is free, and so is what was open before. Only the runtime's own
// binary can be executed. One ruleset a session; whoever restricts himself cannot take it back.
//
//   absl::StatusOr<LandlockProbe> probe = RestrictWithLandlock(LandlockVersion(), needs);
//   ... in a runtime that execve made: if (!IsDenied(*probe)) ...
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_LANDLOCK_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_LANDLOCK_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/policy/rules.h"
#include "runtime/confinement/plan.h"

namespace dunebox::confinement {

// Of the kernel's Landlock; 0: it has none, or it is switched off.
int LandlockVersion();

// The bits that a kernel of `version` knows of, and those that `rights` give on a file or directory.
std::uint64_t HandledFileRights(int version);
std::uint64_t LandlockRights(hostcalls::policy::FileRights rights, bool is_directory);

struct LandlockNeeds {
  const Plan& plan;
  const hostcalls::policy::Rules& rules;
  int runtime_fd = -1;                    // the runtime's own binary; -1: nothing is executed
  int first_reserved = 0;                 // descriptors below are the program's
  // Where the runtime itself writes files of the user's that the program may have no right to.
  std::vector<std::string> output_directories;
  bool looks_at_processes = true;  // reads /proc
  // What the caller could write below /proc by its owners and modes is the names of its own threads, and what everybody may.
  bool names_threads = false;
};

// Something that can be opened without these rules and not with them.
struct LandlockProbe {
  std::string path;  // empty: there is none; everything may be read and written
  int flags = 0;
};

// The calling thread has to be the only one, and to have no_new_privs.
absl::StatusOr<LandlockProbe> RestrictWithLandlock(int version, const LandlockNeeds& needs);
// Is what cannot be had under the rules really refused?
bool IsDenied(const LandlockProbe& probe);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_LANDLOCK_H_
