// Written pages as the kernel notes them: userfaultfd with asynchronous write protection, where a first write costs the
// kernel's fault and no signal, and PAGEMAP_SCAN, which tells and protects again in one step. Needs Linux 6.7; no
// privilege: the descriptor handles no fault of the kernel's, and none is reported in this mode.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_KERNEL_TRACKER_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_KERNEL_TRACKER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "libdune/software/dirty_tracker.h"

namespace dune::software {

absl::StatusOr<std::unique_ptr<DirtyTracker>> MakeKernelTracker();

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_KERNEL_TRACKER_H_
