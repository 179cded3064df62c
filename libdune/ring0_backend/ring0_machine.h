// The backend of <dune/dune.h> in a KVM guest's ring 0. The program's process is the guest: the
// same addresses, its threads are vCPUs, and the kernel's part of each thread runs them in a loop
// on a private stack (run_loop.h).
//
//   absl::StatusOr<std::unique_ptr<Machine>> machine = MakeRing0Machine(options);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_RING0_MACHINE_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_RING0_MACHINE_H_

#include "libdune/backend.h"

namespace dune {

// kUnavailable: no virtualization hardware, no /dev/kvm, or one that lacks something.
// kPermissionDenied, kResourceExhausted.
absl::StatusOr<std::unique_ptr<Machine>> MakeRing0Machine(const EnterOptions& options);

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_RING0_MACHINE_H_
