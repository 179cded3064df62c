// The guest's 4-level page tables, in arena memory.
//
// Pure memory work plus arena growth; knows nothing of VMAs. Tables once linked stay linked:
// a shadow-paging host does not notice a relinked table. Leaves are 4 KiB. Entries are
// written with one atomic store, since vCPUs set accessed and dirty bits meanwhile. Not
// thread-safe: Mmu's lock. On two-dimensional paging a span can also be one 2 MiB leaf, which is taken away
// whole.
//
// Where a table lies is remembered here and never read back from the arena: a program in ring 0 can
// rewrite its page tables, and must not lead the host by them. Words of leaf tables are read, but only
// compared.
#ifndef DUNEBOX_RUNTIME_KVM_PAGE_TABLES_H_
#define DUNEBOX_RUNTIME_KVM_PAGE_TABLES_H_

#include <array>
#include <cstdint>
#include <functional>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/memory/address.h"
#include "libdune/x86/page_table_entry.h"
#include "runtime/kvm/vm.h"

namespace dunebox::kvm {

class PageTables {
 public:
  // `vm` outlives this. Call Initialize before anything else.
  explicit PageTables(Vm& vm) : vm_(vm) {}
  absl::Status Initialize();

  GuestPhys root() const { return root_; }

  // Maps one supervisor page (image, IDT, vCPU block). Supervisor tables survive Reuse.
  absl::Status MapSupervisor(GuestVirt address, GuestPhys frame, bool writable, bool execute);
  // Maps [range) to consecutive frames; the range lies in one 2 MiB span. `rights` carries user,
  // writable and no_execute; present is implied. ResourceExhausted: no memory for tables.
  absl::Status MapSpan(const GuestRange& range, GuestPhys first_frame,
                       dune::x86::PageTableEntry rights);
  // Maps a whole 2 MiB span by one leaf; false: ring 0 is shown its table, or there is no memory for those
  // above it. `first_frame` is aligned as the span. A table that is there already, as of memory that has grown
  // until it is all of the span, is put aside until the leaf goes; its entries must map the same. Not on shadow
  // paging.
  bool MapLargeSpan(GuestVirt span, GuestPhys first_frame, dune::x86::PageTableEntry rights);
  // How many spans are mapped so now.
  std::size_t large_spans() const { return large_.size(); }
  // How many leaf entries have been written: what it found as it should be is not written.
  std::uint64_t entries_written() const { return entries_written_; }
  // Shows ring 0, at `address`, the leaf table of the 2 MiB span that starts at `span`; ring 0 then fills it
  // as well. Once a span: the table stays until Reuse.
  absl::Status ShowLeafTable(GuestVirt span, GuestVirt address);
  // Makes every leaf of the range not present.
  void Clear(const GuestRange& range);
  // Whether any page of the range has a present leaf of its own.
  bool HasPages(const GuestRange& range) const;
  // Calls back for each page of the range that has a present leaf.
  void ForEachPresent(const GuestRange& range,
                      const std::function<void(GuestVirt)>& visit) const;
  // Takes all user-half tables out of the root. They stay as they are: a processor may still be
  // reading them.
  void Detach();
  // Reuses the memory of all user-half tables. Preconditions: Detach, and since then everything
  // has been dropped that KVM and the processors had remembered of them.
  void Reuse();

 private:
  std::uint64_t* Table(GuestPhys table) const;
  absl::StatusOr<GuestPhys> NewTable();
  // The table of `lowest` level for an address, made when absent, and what is above it.
  absl::StatusOr<std::uint64_t*> TableFor(GuestVirt address, bool user, int lowest);
  absl::StatusOr<std::uint64_t*> LeafTable(GuestVirt address, bool user) {
    return TableFor(address, user, 1);
  }
  // The entry of level 2 for a span that is in large_.
  std::uint64_t* LargeSlot(std::uint64_t span) const;
  void ClearLarge(const GuestRange& range);
  // Calls back with each existing level-1 table that meets the range: its entries, the first
  // address of its span.
  void ForEachLeafTable(const GuestRange& range,
                        const std::function<void(std::uint64_t*, GuestVirt)>& visit) const;
  // The tables of one level by the number of the span that they map.
  using Level = absl::btree_map<std::uint64_t, GuestPhys>;
  Level& LevelOf(int level) { return levels_[static_cast<std::size_t>(level - 1)]; }

  Vm& vm_;
  GuestPhys root_;
  std::array<Level, 3> levels_;         // 1, 2, 3
  Level covered_;                       // tables of spans that are one leaf now
  absl::btree_set<std::uint64_t> shown_;  // spans whose tables ring 0 is shown
  absl::btree_set<std::uint64_t> large_;  // spans, by number, that are one leaf
  std::uint64_t entries_written_ = 0;
  std::uint64_t next_ = 0;              // arena offset of the next table
  std::uint64_t supervisor_end_ = 0;    // tables below this are the supervisor's
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_PAGE_TABLES_H_
