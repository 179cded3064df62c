// A /dev with what every program may expect and nothing that reaches hardware: null, zero, full,
// random, urandom, tty (the host's nodes), pseudo terminals of the session's own, shared memory,
// and the links to the process's descriptors.
//
//   absl::Status status = MakeDevices(root, "/dev", /*shared_memory=*/0);
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_DEVICES_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_DEVICES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "runtime/confinement/new_root.h"

namespace dunebox::confinement {

// At `target`. `shared_memory` is the size of shm in bytes; 0: the kernel's default.
absl::Status MakeDevices(NewRoot& root, const std::string& target, std::uint64_t shared_memory);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_DEVICES_H_
