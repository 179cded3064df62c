// Running the hooks of a configuration: programs that an engine wants to be run at points of a container's
// life. [OCI runtime-spec, config.md "POSIX-platform Hooks"]
//
// Each gets the container's state on standard input. They run one after the other, in the namespaces
// of the calling process; the first that fails, or that takes longer than it may, ends the row.
//
//   absl::Status status = RunHooks(config.hooks, HookPoint::kPoststop, StateJson(state));
#ifndef DUNEBOX_SANDBOX_OCI_HOOKS_H_
#define DUNEBOX_SANDBOX_OCI_HOOKS_H_

#include <string>

#include "absl/status/status.h"
#include "sandbox/oci/config.h"

namespace dunebox::oci {

absl::Status RunHooks(const Hooks& hooks, HookPoint point, const std::string& state);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_HOOKS_H_
