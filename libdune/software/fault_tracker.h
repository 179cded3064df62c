// Written pages by the fault that the first write to each is: for kernels that take no note by themselves. A system
// call that is to write to a clean page fails with EFAULT, for the kernel raises no signal for its own accesses.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_FAULT_TRACKER_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_FAULT_TRACKER_H_

#include "libdune/software/dirty_tracker.h"

namespace dune::software {

class FaultTracker final : public DirtyTracker {
 public:
  explicit FaultTracker(ProcessRights& rights) : rights_(rights) {}

  absl::Status Track(Range range) override { return rights_.Watch(range); }
  absl::Status Untrack(Range range) override { return rights_.Unwatch(range); }
  absl::Status TestAndClear(Range range, absl::FunctionRef<void(Range)> visitor) override {
    return rights_.RewatchWritten(range, visitor);
  }
  bool IsDirty(std::uintptr_t page) override { return !rights_.IsWatched(page); }
  bool sees_system_calls() const override { return false; }
  // Rights and what is noted of them are the child's as they were the parent's.
  void AfterForkInChild(std::span<const Range> /*tracked*/) override {}

 private:
  ProcessRights& rights_;
};

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_FAULT_TRACKER_H_
