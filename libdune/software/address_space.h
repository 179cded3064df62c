// PageTable::Current() of the software backend: the process's own address space, changed by mprotect and looked at
// through /proc. What is mapped is what the process has mapped, whether the kernel has given it memory yet or not.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_ADDRESS_SPACE_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_ADDRESS_SPACE_H_

#include <memory>
#include <mutex>

#include "libdune/backend.h"
#include "libdune/software/dirty_tracker.h"
#include "libdune/software/process_maps.h"
#include "libdune/software/process_rights.h"
#include "libdune/software/range_set.h"

namespace dune::software {

class AddressSpace final : public PageTable::Implementation {
 public:
  static absl::StatusOr<std::unique_ptr<AddressSpace>> Create(DirtyMethod method);

  absl::Status Protect(Range range, Rights rights) override;
  absl::Status Claim(Range range) override;
  void Disclaim(Range range) override;
  absl::StatusOr<Mapping> Walk(std::uintptr_t address) const override;
  absl::Status Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const override;
  absl::Status Track(Range range, Tracking tracking) override;
  absl::Status Untrack(Range range, Tracking tracking) override;
  absl::Status TestAndClear(Range range, Tracking tracking,
                            absl::FunctionRef<void(Range)> visitor) override;
  // It is always the one in use.
  absl::Status Activate() override { return absl::OkStatus(); }

  bool sees_system_calls() const { return tracker_->sees_system_calls(); }
  // A page fault that is the backend's own doing, and is over now.
  bool Resolve(std::uintptr_t address, Rights wanted) { return rights_.Resolve(address, wanted); }

  void BeforeFork();
  void AfterForkInParent();
  void AfterForkInChild();

 private:
  AddressSpace() : rights_(maps_) {}

  Mapping Describe(std::uintptr_t page, Rights rights) const;
  bool IsTracked(Range range) const;

  ProcessMaps maps_;
  ProcessRights rights_;
  std::unique_ptr<DirtyTracker> tracker_;
  mutable std::mutex mutex_;  // of tracked_; taken before the lock of rights_
  RangeSet tracked_;
};

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_ADDRESS_SPACE_H_
