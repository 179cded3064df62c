// The last step before the first guest instruction: the kernel forbids this session, for ever, what
// its plan, its rules and its engine have no use for. [DESIGN D6]
//
// Privileges first, then Landlock, then the filter of system calls, which forbids changing any of
// it. Children inherit all three; a runtime that execve made adds nothing and only looks whether it
// is confined (Landlock stops at 16 layers, and filters pile up). A mechanism that the kernel does
// not have is left out, unless the plan requires it.
//
//   absl::StatusOr<Confinement> confinement = LockDown({.plan = plan, .rules = rules, ...});
//   ... over execve ...
//   if (absl::Status status = VerifyLockDown(confinement); !status.ok()) return status;  // 125
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_LOCK_DOWN_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_LOCK_DOWN_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/policy/rules.h"
#include "runtime/confinement/capabilities.h"
#include "runtime/confinement/landlock.h"
#include "runtime/confinement/plan.h"

namespace dunebox::confinement {

struct LockDownRequest {
  const Plan& plan;
  const hostcalls::policy::Rules& rules;
  bool kvm = false;              // the engine makes virtual machines
  std::size_t code_cache = 0;    // bytes of the engine's code cache; 0: it has none
  bool protection_keys = false;  // isolation pku
  int runtime_fd = -1;           // the runtime's own binary, O_PATH
  int first_reserved = 0;        // descriptors below are the program's
  bool names_threads = false;    // LandlockNeeds'
  std::vector<std::string> output_directories;  // where the runtime makes files of its own
};

// What is in force. Goes from program to program in the session's state.
struct Confinement {
  bool confined = false;  // false: nothing below
  bool filtered = false;
  bool landlocked = false;
  LandlockProbe probe;
  Capabilities kept = 0;
  // The filter refuses memfds that could be executed: the program's are sealed against it.
  bool seals_memfds = false;
};

// In a process with one thread.
absl::StatusOr<Confinement> LockDown(const LockDownRequest& request);
// First thing in a runtime that execve made. Forbids dumps again, which execve permits.
absl::Status VerifyLockDown(const Confinement& confinement);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_LOCK_DOWN_H_
