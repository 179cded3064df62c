#include "runtime/kvm/page_tables.h"

#include <sys/mman.h>

#include <algorithm>

#include "runtime/kvm/layout.h"

namespace dunebox::kvm {

using dune::x86::EntrySpan;
using dune::x86::kEntriesPerTable;
using dune::x86::PageTableEntry;
using dune::x86::TableIndex;

namespace {

constexpr int kTopLevel = 4;
constexpr unsigned kFirstSupervisorIndex = kEntriesPerTable / 2;

PageTableEntry LoadEntry(const std::uint64_t* slot) {
  return PageTableEntry(__atomic_load_n(slot, __ATOMIC_RELAXED));
}
void StoreEntry(std::uint64_t* slot, PageTableEntry entry) {
  __atomic_store_n(slot, entry.word(), __ATOMIC_RELEASE);
}

}  // namespace

absl::Status PageTables::Initialize() {
  next_ = layout::kTablesOffset;
  absl::StatusOr<GuestPhys> root = NewTable();
  if (!root.ok()) return root.status();
  root_ = *root;
  // All the supervisor will ever need: one table a level, and one leaf table for each 2 MiB up to
  // the last vCPU block. Made now, so that Reuse can tell them from the user half's.
  for (std::uint64_t offset = 0; offset < layout::kTablesOffset; offset += EntrySpan(2)) {
    absl::StatusOr<std::uint64_t*> leaf = LeafTable(layout::ArenaVirt(offset), /*user=*/false);
    if (!leaf.ok()) return leaf.status();
  }
  supervisor_end_ = next_;
  return absl::OkStatus();
}

std::uint64_t* PageTables::Table(GuestPhys table) const {
  return reinterpret_cast<std::uint64_t*>(vm_.arena(table.value));
}

absl::StatusOr<GuestPhys> PageTables::NewTable() {
  if (absl::Status grown = vm_.GrowArena(next_ + kPageSize); !grown.ok()) return grown;
  const GuestPhys table{next_};
  next_ += kPageSize;
  return table;  // fresh anonymous memory: all entries not present
}

absl::StatusOr<std::uint64_t*> PageTables::LeafTable(GuestVirt address, bool user) {
  GuestPhys table = root_;
  for (int level = kTopLevel; level > 1; --level) {
    std::uint64_t* slot = Table(table) + TableIndex(address.value, level);
    PageTableEntry entry = LoadEntry(slot);
    if (!entry.present()) {
      absl::StatusOr<GuestPhys> fresh = NewTable();
      if (!fresh.ok()) return fresh.status();
      entry = PageTableEntry{}
                  .set_frame(fresh->value)
                  .set_user(user)
                  .set_writable(true)
                  .set_present(true);
      StoreEntry(slot, entry);
    }
    table = GuestPhys{entry.frame()};
  }
  return Table(table);
}

absl::Status PageTables::MapSupervisor(GuestVirt address, GuestPhys frame, bool writable,
                                       bool execute) {
  absl::StatusOr<std::uint64_t*> leaf = LeafTable(address, /*user=*/false);
  if (!leaf.ok()) return leaf.status();
  StoreEntry(*leaf + TableIndex(address.value, 1), PageTableEntry{}
                                                       .set_frame(frame.value)
                                                       .set_writable(writable)
                                                       .set_no_execute(!execute)
                                                       .set_present(true));
  return absl::OkStatus();
}

absl::Status PageTables::MapSpan(const GuestRange& range, GuestPhys first_frame,
                                 PageTableEntry rights) {
  absl::StatusOr<std::uint64_t*> leaf = LeafTable(range.start, /*user=*/true);
  if (!leaf.ok()) return leaf.status();
  std::uint64_t frame = first_frame.value;
  for (GuestVirt page = range.start; page < range.end; page = page + kPageSize) {
    const PageTableEntry entry = rights.set_frame(frame).set_present(true);
    std::uint64_t* slot = *leaf + TableIndex(page.value, 1);
    // Accessed and dirty set at once: the CPU need not write the table on first use.
    const PageTableEntry full = entry.set_accessed(true).set_dirty(entry.writable());
    if (LoadEntry(slot) != full) StoreEntry(slot, full);
    frame += kPageSize;
  }
  return absl::OkStatus();
}

void PageTables::WalkLevel(GuestPhys table, int level, GuestVirt start, const GuestRange& range,
                           const std::function<void(std::uint64_t*, GuestVirt)>& visit) const {
  if (level == 1) {
    visit(Table(table), start);
    return;
  }
  const std::uint64_t span = EntrySpan(level);
  const unsigned entries = level == kTopLevel ? kFirstSupervisorIndex : kEntriesPerTable;
  const std::uint64_t skip =
      range.start > start ? (range.start - start) / span : 0;
  for (std::uint64_t i = skip; i < entries; ++i) {
    const GuestVirt entry_start = start + i * span;
    if (entry_start >= range.end) return;
    const PageTableEntry entry = LoadEntry(Table(table) + i);
    if (entry.present()) {
      WalkLevel(GuestPhys{entry.frame()}, level - 1, entry_start, range, visit);
    }
  }
}

void PageTables::ForEachLeafTable(
    const GuestRange& range, const std::function<void(std::uint64_t*, GuestVirt)>& visit) const {
  WalkLevel(root_, kTopLevel, GuestVirt{0}, range, visit);
}

void PageTables::Clear(const GuestRange& range) {
  ForEachLeafTable(range, [&](std::uint64_t* leaf, GuestVirt start) {
    const GuestVirt first = std::max(start, range.start);
    const GuestVirt last = std::min(start + EntrySpan(2), range.end);
    for (GuestVirt page = first; page < last; page = page + kPageSize) {
      std::uint64_t* slot = leaf + TableIndex(page.value, 1);
      if (LoadEntry(slot).word() != 0) StoreEntry(slot, PageTableEntry{});
    }
  });
}

void PageTables::ForEachPresent(const GuestRange& range,
                                const std::function<void(GuestVirt)>& visit) const {
  ForEachLeafTable(range, [&](std::uint64_t* leaf, GuestVirt start) {
    const GuestVirt first = std::max(start, range.start);
    const GuestVirt last = std::min(start + EntrySpan(2), range.end);
    for (GuestVirt page = first; page < last; page = page + kPageSize) {
      if (LoadEntry(leaf + TableIndex(page.value, 1)).present()) visit(page);
    }
  });
}

void PageTables::Detach() {
  for (unsigned i = 0; i < kFirstSupervisorIndex; ++i) {
    StoreEntry(Table(root_) + i, PageTableEntry{});
  }
}

void PageTables::Reuse() {
  // Zero-filled again at the next touch.
  madvise(vm_.arena(supervisor_end_), next_ - supervisor_end_, MADV_DONTNEED);
  next_ = supervisor_end_;
}

}  // namespace dunebox::kvm
