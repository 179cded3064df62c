#include "libdune/software/dirty_tracker.h"

#include "libdune/software/fault_tracker.h"
#include "libdune/software/kernel_tracker.h"

namespace dune::software {

absl::StatusOr<std::unique_ptr<DirtyTracker>> MakeDirtyTracker(DirtyMethod method,
                                                               ProcessRights& rights) {
  if (method != DirtyMethod::kFaults) {
    // A first write costs 0.7 us where the kernel takes note, and 6.4 us as a signal (docs/libdune.md).
    absl::StatusOr<std::unique_ptr<DirtyTracker>> tracker = MakeKernelTracker();
    if (tracker.ok() || method == DirtyMethod::kKernel) return tracker;
  }
  return std::make_unique<FaultTracker>(rights);
}

}  // namespace dune::software
