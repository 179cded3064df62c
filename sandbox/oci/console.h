// The terminal of a container: made in its own devpts, its other end sent to the engine.
//
//   absl::StatusOr<FileDescriptor> terminal = OpenConsole(view, process, socket);
//   absl::Status status = UseConsole(terminal->get());   // now 0, 1, 2 and the controlling terminal
#ifndef DUNEBOX_SANDBOX_OCI_CONSOLE_H_
#define DUNEBOX_SANDBOX_OCI_CONSOLE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"
#include "sandbox/oci/config.h"
#include "sandbox/oci/view.h"

namespace dunebox::oci {

// The engine's socket, by the name of --console-socket.
absl::StatusOr<runtime::FileDescriptor> ConnectTo(const std::string& path);
// The container's end, also shown as /dev/console. The other one goes through `socket`.
absl::StatusOr<runtime::FileDescriptor> OpenConsole(View& view, const Process& process, int socket);
// In the leader of a session without a terminal.
absl::Status UseConsole(int terminal);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_CONSOLE_H_
