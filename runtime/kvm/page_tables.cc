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
// Everything below belongs to user-half tables.
constexpr std::uint64_t kUserEnd = kFirstSupervisorIndex * EntrySpan(kTopLevel);

// Which of the spans that tables of `level` map has the address.
std::uint64_t SpanNumber(GuestVirt address, int level) {
  return address.value / EntrySpan(level + 1);
}

PageTableEntry LoadEntry(const std::uint64_t* slot) {
  return PageTableEntry(__atomic_load_n(slot, __ATOMIC_RELAXED));
}
void StoreEntry(std::uint64_t* slot, PageTableEntry entry) {
  __atomic_store_n(slot, entry.word(), __ATOMIC_RELEASE);
}

PageTableEntry EntryOfTable(GuestPhys table, bool user) {
  return PageTableEntry{}
      .set_frame(table.value)
      .set_user(user)
      .set_writable(true)
      .set_present(true);
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

absl::StatusOr<std::uint64_t*> PageTables::TableFor(GuestVirt address, bool user, int lowest) {
  if (lowest == 1 && large_.contains(SpanNumber(address, 1))) {
    ClearLarge({address, address + kPageSize});  // the leaf gives way to the table
  }
  Level& wanted = LevelOf(lowest);
  if (auto known = wanted.find(SpanNumber(address, lowest)); known != wanted.end()) {
    return Table(known->second);
  }
  GuestPhys table = root_;
  for (int level = kTopLevel; level > lowest; --level) {
    Level& below = LevelOf(level - 1);
    const std::uint64_t number = SpanNumber(address, level - 1);
    auto child = below.find(number);
    if (child == below.end()) {
      absl::StatusOr<GuestPhys> fresh = NewTable();
      if (!fresh.ok()) return fresh.status();
      child = below.emplace(number, *fresh).first;
      StoreEntry(Table(table) + TableIndex(address.value, level),
                 EntryOfTable(*fresh, user));
    }
    table = child->second;
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

absl::Status PageTables::ShowLeafTable(GuestVirt span, GuestVirt address) {
  if (absl::StatusOr<std::uint64_t*> leaf = LeafTable(span, /*user=*/true); !leaf.ok()) {
    return leaf.status();
  }
  shown_.insert(SpanNumber(span, 1));
  return MapSupervisor(address, LevelOf(1).at(SpanNumber(span, 1)), /*writable=*/true,
                       /*execute=*/false);
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
    if (LoadEntry(slot) != full) {
      StoreEntry(slot, full);
      ++entries_written_;
    }
    frame += kPageSize;
  }
  return absl::OkStatus();
}

bool PageTables::MapLargeSpan(GuestVirt span, GuestPhys first_frame, PageTableEntry rights) {
  const std::uint64_t number = SpanNumber(span, 1);
  if (shown_.contains(number)) return false;
  absl::StatusOr<std::uint64_t*> directory = TableFor(span, /*user=*/true, 2);
  if (!directory.ok()) return false;
  const PageTableEntry leaf = rights.set_frame(first_frame.value)
                                  .set_present(true)
                                  .set_large(true)
                                  .set_accessed(true)
                                  .set_dirty(rights.writable());
  std::uint64_t* slot = *directory + TableIndex(span.value, 2);
  if (LoadEntry(slot) != leaf) {
    StoreEntry(slot, leaf);
    ++entries_written_;
  }
  large_.insert(number);
  // Who remembers the table finds there what the leaf says: all that it has is of the same mapping.
  if (auto table = LevelOf(1).extract(number)) covered_.insert(std::move(table));
  return true;
}

std::uint64_t* PageTables::LargeSlot(std::uint64_t span) const {
  const GuestVirt start{span * EntrySpan(2)};
  return Table(levels_[1].at(SpanNumber(start, 2))) + TableIndex(start.value, 2);
}

void PageTables::ClearLarge(const GuestRange& range) {
  if (range.end <= range.start) return;
  const GuestVirt last{range.end.value - 1};
  const auto first = large_.lower_bound(SpanNumber(range.start, 1));
  const auto end = large_.upper_bound(SpanNumber(last, 1));
  for (auto span = first; span != end; ++span) {
    auto table = covered_.extract(*span);
    if (!table) {
      StoreEntry(LargeSlot(*span), PageTableEntry{});
      continue;
    }
    // First its entries: a processor may remember where it is.
    std::uint64_t* const entries = Table(table.mapped());
    for (unsigned i = 0; i < kEntriesPerTable; ++i) StoreEntry(entries + i, PageTableEntry{});
    StoreEntry(LargeSlot(*span), EntryOfTable(table.mapped(), /*user=*/true));
    LevelOf(1).insert(std::move(table));
  }
  large_.erase(first, end);
}

void PageTables::ForEachLeafTable(
    const GuestRange& range, const std::function<void(std::uint64_t*, GuestVirt)>& visit) const {
  if (range.end <= range.start) return;
  const Level& leaves = levels_[0];
  const GuestVirt last{std::min(range.end.value, kUserEnd) - 1};
  for (auto at = leaves.lower_bound(SpanNumber(range.start, 1));
       at != leaves.end() && at->first <= SpanNumber(last, 1); ++at) {
    visit(Table(at->second), GuestVirt{at->first * EntrySpan(2)});
  }
}

void PageTables::Clear(const GuestRange& range) {
  ClearLarge(range);
  ForEachLeafTable(range, [&](std::uint64_t* leaf, GuestVirt start) {
    const GuestVirt first = std::max(start, range.start);
    const GuestVirt last = std::min(start + EntrySpan(2), range.end);
    for (GuestVirt page = first; page < last; page = page + kPageSize) {
      std::uint64_t* slot = leaf + TableIndex(page.value, 1);
      if (LoadEntry(slot).word() != 0) StoreEntry(slot, PageTableEntry{});
    }
  });
}

bool PageTables::HasPages(const GuestRange& range) const {
  bool any = false;
  ForEachLeafTable(range, [&](std::uint64_t* leaf, GuestVirt start) {
    const GuestVirt last = std::min(start + EntrySpan(2), range.end);
    for (GuestVirt page = std::max(start, range.start); !any && page < last; page = page + kPageSize) {
      any = LoadEntry(leaf + TableIndex(page.value, 1)).present();
    }
  });
  return any;
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
  for (auto span = large_.lower_bound(SpanNumber(range.start, 1));
       span != large_.end() && *span * EntrySpan(2) < range.end.value; ++span) {
    const GuestVirt start{*span * EntrySpan(2)};
    const GuestVirt end = std::min(start + EntrySpan(2), range.end);
    for (GuestVirt page = std::max(start, range.start); page < end; page = page + kPageSize) {
      visit(page);
    }
  }
}

void PageTables::Detach() {
  large_.clear();
  covered_.clear();
  shown_.clear();
  for (unsigned i = 0; i < kFirstSupervisorIndex; ++i) {
    StoreEntry(Table(root_) + i, PageTableEntry{});
  }
  for (int level = 1; level < kTopLevel; ++level) {
    Level& tables = LevelOf(level);
    tables.erase(tables.begin(), tables.lower_bound(SpanNumber(GuestVirt{kUserEnd}, level)));
  }
}

void PageTables::Reuse() {
  // Zero-filled again at the next touch.
  madvise(vm_.arena(supervisor_end_), next_ - supervisor_end_, MADV_DONTNEED);
  next_ = supervisor_end_;
}

}  // namespace dunebox::kvm
