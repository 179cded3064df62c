// A PageTable of the program's own making. Its upper half is that of every table; the lower half is
// what was mapped, and with Contents::kProcess the process's tables, or those of the template that it is
// a clone of, which are copied where something is changed.
//
//   auto table = OwnTable::Create(PageTable::Contents::kEmpty);
//   (*table)->Map({0x400000, 4096}, memory, {.rights = Rights::kReadExecute});
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_OWN_TABLE_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_OWN_TABLE_H_

#include <atomic>
#include <memory>
#include <mutex>

#include "absl/functional/function_ref.h"
#include "libdune/backend.h"
#include "libdune/ring0_backend/tables.h"

namespace dune::ring0 {

class OwnTable final : public PageTable::Implementation {
 public:
  static absl::StatusOr<std::unique_ptr<OwnTable>> Create(PageTable::Contents contents);

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
  absl::Status CheckRunnable() const override { return CheckChangeable(); }
  void Flush(Range range) override;
  std::uint64_t root() const override { return tables_->root; }

  absl::StatusOr<std::byte*> FindUserByte(std::uintptr_t address, Access access) override;
  absl::Status Look(absl::FunctionRef<absl::Status()> look) const override;
  // With the table's lock: nobody clones it meanwhile. kFailedPrecondition: it is a template.
  absl::Status Change(absl::FunctionRef<absl::Status()> change);
  // Pages of the pool.
  absl::Status MapFresh(Range where, Rights rights) override;

 private:
  explicit OwnTable(std::uint64_t root) : tables_(std::make_shared<const Tables>(root)) {}
  Entry* OwnEntry(std::uintptr_t address, int level) { return dune::ring0::OwnEntry(root(), address, level); }
  absl::Status CheckLower(Range range) const;
  // kFailedPrecondition: it is a template.
  absl::Status CheckChangeable() const;
  // In ring 0, and the range's.
  absl::Status CheckChange(Range range) const;
  // Large pages are not to be changed in part.
  absl::Status CheckWholePages(Range range) const;
  absl::Status CheckMapped(Range range) const;
  void MakeTemplate() const;
  void LendTables(std::uint64_t to) const;
  absl::Status CopyTables(std::uint64_t table, int level, std::uint64_t begin, OwnTable& clone, PageTable::Sharing sharing) const;
  absl::StatusOr<std::uint64_t> EntryToShare(std::uintptr_t at);

  mutable std::mutex mutex_;  // changes of one table, one after the other
  bool has_process_ = false;  // tables of the process's, as Contents::kProcess has
  bool shares_ = false;       // tables with another (Share)
  mutable std::atomic<bool> is_template_{false};
  mutable unsigned lent_entries_ = 0;     // of a template: its root's, up to the last that leads somewhere
  std::shared_ptr<const Tables> lender_;  // of the template's tables, in a clone of one
  std::shared_ptr<const Tables> tables_;
};

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_OWN_TABLE_H_
