// The life of the process that becomes the container, from fork to the program's end.
//
//   create ── builder ── container            builder: enters and makes namespaces, then ends
//
// The container's process is the first of its pid namespace. It puts the view of files together, waits
// for start at a socket, and then is the monitor of a session (runtime/session.h), which passes signals
// on, buries orphans, and ends with the program's exit status.
//
//   const pid_t builder = fork();
//   if (builder == 0) BecomeBuilder(std::move(request), std::move(channel));
#ifndef DUNEBOX_SANDBOX_OCI_CONTAINER_H_
#define DUNEBOX_SANDBOX_OCI_CONTAINER_H_

#include <string>
#include <vector>

#include "runtime/file_descriptor.h"
#include "sandbox/oci/channel.h"
#include "sandbox/oci/config.h"
#include "sandbox/oci/plan.h"
#include "sandbox/oci/state.h"

namespace dunebox::oci {

struct ContainerRequest {
  Config config;
  Plan plan;
  std::string root;                      // absolute
  State state;                           // for hooks
  std::vector<std::string> cgroups;      // directories
  runtime::FileDescriptor start_socket;  // listening
  runtime::FileDescriptor console_socket;  // connected; with process.terminal
  runtime::FileDescriptor kvm_device;      // with engine kvm
  int preserved_descriptors = 0;           // from 3 on
};

// Speaks with `create` by Steps of Channel, in their order.
[[noreturn]] void BecomeBuilder(ContainerRequest request, Channel channel);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_CONTAINER_H_
