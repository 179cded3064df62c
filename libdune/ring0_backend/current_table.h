// PageTable::Current() in ring 0: the mirror's entries, changed by the program itself without an
// exit. Rights are a limit in the entry, beside what the process has given; dirty and accessed are
// the processor's bits.
//
// What the host's kernel writes for a system call is not written by this processor's tables: it
// does not show as dirty.
//
//   CurrentTable current;
//   current.Protect({begin, size}, Rights::kRead);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_CURRENT_TABLE_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_CURRENT_TABLE_H_

#include <memory>
#include <mutex>
#include <vector>

#include "libdune/backend.h"
#include "libdune/ring0_backend/flush.h"

namespace dune::ring0 {

class CurrentTable final : public PageTable::Implementation {
 public:
  absl::StatusOr<std::unique_ptr<Implementation>> Clone(PageTable::Sharing sharing) const override;
  absl::Status Protect(Range range, Rights rights) override;
  absl::StatusOr<Mapping> Walk(std::uintptr_t address) const override;
  absl::Status Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const override;
  absl::Status Track(Range range, Tracking tracking) override;
  absl::Status Untrack(Range range, Tracking tracking) override;
  absl::Status TestAndClear(Range range, Tracking tracking,
                            absl::FunctionRef<void(Range)> visitor) override;
  absl::Status Activate() override;
  void Flush(Range range) override;
  std::uint64_t root() const override;

 private:
  bool IsTracked(Range range, Tracking tracking);

  void LeaveOutUnmapped(Tracking tracking);

  std::mutex mutex_;
  std::vector<Range> tracked_[2];  // by Tracking; apart from each other
  std::uint64_t lost_[2] = {};     // Vm::tracking_lost when it was last looked at
};

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_CURRENT_TABLE_H_
