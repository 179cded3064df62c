// The backend that needs no virtualization: the process stays in ring 3 of the host, and page tables and traps are
// asked of the host's kernel. Being in is a thread's own choice; the address space is everybody's.
//
//   absl::StatusOr<std::unique_ptr<Machine>> machine = software::MakeMachine(options);
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_SOFTWARE_MACHINE_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_SOFTWARE_MACHINE_H_

#include <memory>

#include "libdune/backend.h"

namespace dune::software {

absl::StatusOr<std::unique_ptr<Machine>> MakeMachine(const EnterOptions& options);

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_SOFTWARE_MACHINE_H_
