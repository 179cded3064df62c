// The second wall of a plugin: what the host's kernel lets a worker do, whatever has become of the
// code in it. Installed once, when the engine has its executable memory and before the first byte
// of a plugin's world (its C library included) is read; for all threads that come after.
//
// - no_new_privs, no capabilities, not dumpable, a session keyring of its own
// - Landlock: what the policy lets the plugin read can be read; nothing is written or executed, no
// TCP, no
//   abstract sockets, no signals to other processes
// - seccomp: the calls of worker_calls.inc, in the forms given there; everything else kills the
// process. No
//   memory becomes executable, nothing is executed, no processes, no sockets
// - limits: memory, threads, descriptors, no files
// - namespaces that the fork server could make: user, pid, network, ipc, uts
//
// Without seccomp or Landlock it fails: it is never less.
//
//   absl::StatusOr<std::vector<std::string>> names = Confine(policy, namespaces);
#ifndef DUNEBOX_SANDBOX_WORKER_CONFINE_H_
#define DUNEBOX_SANDBOX_WORKER_CONFINE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dunebox/policy.h"

namespace dunebox::worker {

// On the calling thread, which has to be the only one. `namespaces`: flags of clone(2) that this
// process was made with. What is in force: "seccomp", "landlock", "pid namespace" ...
absl::StatusOr<std::vector<std::string>> Confine(const Policy& policy, int namespaces);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_CONFINE_H_
