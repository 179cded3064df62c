// What a container's program begins with: limits, user and groups, capabilities, environment, directory.
//
//   absl::Status status = TakeAttributes(config->process, plan.kept_capabilities);
//   // this process is now the container's user
#ifndef DUNEBOX_SANDBOX_OCI_ATTRIBUTES_H_
#define DUNEBOX_SANDBOX_OCI_ATTRIBUTES_H_

#include <string>

#include "absl/status/status.h"
#include "sandbox/oci/config.h"

namespace dunebox::oci {

// In the process that becomes the container, in its view of files. No way back.
absl::Status TakeAttributes(const Process& process, CapabilityBits kept);

// Is there such a program to be executed, where the configuration's environment and directory lead?
// Engines want to know before it is started.
absl::Status FindProgram(const Process& process);

// Of a user in the text of an /etc/passwd; "/" when it is not there.
std::string HomeOf(std::uint32_t uid, const std::string& passwd);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_ATTRIBUTES_H_
