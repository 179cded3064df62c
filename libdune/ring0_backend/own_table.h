// A PageTable of the program's own making. Its upper half is that of every table; the lower half is
// what was mapped, and with Contents::kProcess the process's tables, which are copied where
// something is changed.
//
//   auto table = OwnTable::Create(PageTable::Contents::kEmpty);
//   (*table)->Map({0x400000, 4096}, memory, {.rights = Rights::kReadExecute});
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_OWN_TABLE_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_OWN_TABLE_H_

#include <memory>
#include <mutex>

#include "libdune/backend.h"
#include "libdune/ring0_backend/entries.h"

namespace dune::ring0 {

class OwnTable final : public PageTable::Implementation {
 public:
  static absl::StatusOr<std::unique_ptr<OwnTable>> Create(PageTable::Contents contents);
  ~OwnTable() override;

  absl::StatusOr<std::unique_ptr<Implementation>> Clone(PageTable::Sharing sharing) const override;
  absl::Status Map(Range where, std::uintptr_t memory,
                   const PageTable::MapOptions& options) override;
  absl::Status Unmap(Range range) override;
  absl::Status Protect(Range range, Rights rights) override;
  absl::Status Share(Range range, Implementation& other) override;
  absl::StatusOr<Mapping> Walk(std::uintptr_t address) const override;
  absl::Status Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const override;
  absl::Status Track(Range range, Tracking tracking) override;
  absl::Status Untrack(Range range, Tracking tracking) override;
  absl::Status TestAndClear(Range range, Tracking tracking,
                            absl::FunctionRef<void(Range)> visitor) override;
  absl::Status Activate() override;
  void Flush(Range range) override;
  std::uint64_t root() const override { return root_; }

  // Pages of the pool.
  absl::Status MapFresh(Range where, Rights rights) override;

 private:
  explicit OwnTable(std::uint64_t root) : root_(root) {}
  Entry* OwnEntry(std::uintptr_t address, int level);
  absl::Status CheckLower(Range range) const;

  mutable std::mutex mutex_;  // changes of one table, one after the other
  std::uint64_t root_;
};

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_OWN_TABLE_H_
