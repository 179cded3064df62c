// `create`: from a bundle to a container that waits for start.
//
//   absl::StatusOr<State> state = CreateContainer(command, *log);
#ifndef DUNEBOX_SANDBOX_OCI_CREATE_H_
#define DUNEBOX_SANDBOX_OCI_CREATE_H_

#include "absl/status/statusor.h"
#include "sandbox/oci/commands.h"
#include "sandbox/oci/log.h"
#include "sandbox/oci/state.h"

namespace dunebox::oci {

// Leaves nothing behind when it fails.
absl::StatusOr<State> CreateContainer(const Command& command, const Log& log);

// The rest of a container whose process has ended; poststop hooks are warned about when they fail.
absl::Status RemoveContainer(const ContainerDirectory& directory, State state, const Log& log);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_CREATE_H_
