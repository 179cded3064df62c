// How it is found out what was written to. Two ways: the kernel takes note by itself (userfaultfd's asynchronous write
// protection, harvested by PAGEMAP_SCAN), or write rights are taken and given back in the fault handler. The third that
// Linux has, soft-dirty bits, is none: reading and clearing them are two calls, and what is written between is lost.
//
//   auto tracker = MakeDirtyTracker(DirtyMethod::kBest, rights);
//   tracker->Track(heap);
//   tracker->TestAndClear(heap, [](Range written) { ... });
//
// Ranges are tracked when they are harvested: the caller keeps count of that. Thread-safe. Between BeforeFork and
// AfterFork nothing of it is used.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_DIRTY_TRACKER_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_DIRTY_TRACKER_H_

#include <bitset>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "dune/dune.h"
#include "dune/page_table.h"
#include "libdune/software/process_rights.h"

namespace dune::software {

class DirtyTracker {
 public:
  DirtyTracker() = default;
  DirtyTracker(const DirtyTracker&) = delete;
  DirtyTracker& operator=(const DirtyTracker&) = delete;
  virtual ~DirtyTracker() = default;

  virtual absl::Status Track(Range range) = 0;
  virtual absl::Status Untrack(Range range) = 0;
  // In order; neighbours may come one by one.
  virtual absl::Status TestAndClear(Range range, absl::FunctionRef<void(Range)> visitor) = 0;
  // Whether one page, of a tracked range, was written to; nothing is cleared.
  virtual bool IsDirty(std::uintptr_t page) = 0;
  // Whether system calls may write to a clean page.
  virtual bool sees_system_calls() const = 0;
  // In a forked child, of what was tracked. Everything may count as written to until the next harvest.
  virtual void AfterForkInChild(std::span<const Range> tracked) = 0;
};

// kUnavailable: the kernel has not what `method` needs.
absl::StatusOr<std::unique_ptr<DirtyTracker>> MakeDirtyTracker(DirtyMethod method,
                                                               ProcessRights& rights);

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_DIRTY_TRACKER_H_
