#include "libdune/ring0_backend/own_table.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "libdune/ring0_backend/flush.h"

namespace dune::ring0 {
namespace {

// An entry that is mapped has kKnown, present or not: rights may be none.
std::uint64_t LeafWith(std::uint64_t word, Rights rights) {
  const auto granted = static_cast<unsigned>(rights);
  word &= ~(bits::kPresent | bits::kWritable | bits::kNoExecute | bits::kCopyOnWrite);
  if (granted == 0) return word;
  return word | bits::kPresent | ((granted & 2) != 0 ? bits::kWritable : 0) |
         ((granted & 4) != 0 ? 0 : bits::kNoExecute);
}

std::uint64_t Privately(std::uint64_t word) {
  const bool may_write = (word & bits::kWritable) != 0;
  return (word & ~bits::kWritable) | bits::kPrivate | (may_write ? bits::kCopyOnWrite : 0);
}

bool IsInUse(std::uint64_t address) {
  const Entry* const entry = FindEntry(vm.root, address, 1);
  return entry != nullptr && (entry->load() & bits::kPresent) != 0;
}

// Of a template, in which nobody runs.
void MakeCopyOnWrite(Entry& entry) {
  std::uint64_t leaf = entry.load(), shared;
  do {
    if ((leaf & bits::kWritable) == 0) return;
    shared = (leaf & ~bits::kWritable) | bits::kCopyOnWrite;
    if ((leaf & bits::kOwned) == 0) shared |= bits::kPrivate;
  } while (!entry.compare_exchange_weak(leaf, shared));
}

// Returns what it is for the clone, which has a reference to the frame if the leaf owns it. A fault in another thread may put another
// frame there at any time.
std::uint64_t Lend(Entry& entry, PageTable::Sharing sharing) {
  std::uint64_t leaf = entry.load();
  for (;;) {
    const bool owned = (leaf & bits::kOwned) != 0;
    const std::uint64_t frame = leaf & bits::kFrame;
    if (owned && !TryKeepFrame(frame)) {
      leaf = entry.load();
      continue;
    }
    std::uint64_t lent = leaf;
    if (sharing == PageTable::Sharing::kCopyOnWrite) {
      if ((lent & bits::kWritable) != 0) lent = (lent & ~bits::kWritable) | bits::kCopyOnWrite | (owned ? 0 : bits::kPrivate);
      if (owned && (lent & bits::kCopyOnWrite) != 0) lent |= bits::kCloned;
    }
    if (entry.compare_exchange_strong(leaf, lent)) return lent;
    if (owned) DropFrame(frame);
  }
}

// A write of ring 0's own to such a page is for the traps' stub first.
void ExpectCopies() {
  std::atomic_ref<std::uint64_t>(vm.shared->handled).fetch_or(1u << DUNE_VECTOR_PAGE_FAULT);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OwnTable>> OwnTable::Create(PageTable::Contents contents) {
  if (!IsInRing0()) return NotInRing0();
  const std::uint64_t frame = TakeFrame();
  if (frame == 0) return NoFrame();
  std::unique_ptr<OwnTable> table(new OwnTable(PhysicalOf(frame)));
  Entry* const to = TableAt(table->root());
  Entry* const from = TableAt(vm.root);
  constexpr unsigned kUpperPart = x86::TableIndex(DUNE_ALIAS_BASE, 4);  // there is one
  to[kUpperPart].store(from[kUpperPart].load());
  if (contents == PageTable::Contents::kEmpty) return table;
  table->has_process_ = true;
  // Every part of the process has a table from here on, so what comes later is there as well.
  for (unsigned index = 0; index < kLowerHalf; ++index) {
    if (MakeEntry(vm.root, index * x86::EntrySpan(4), 3) == nullptr) return NoFrame();
    to[index].store(from[index].load() | bits::kForeign);
  }
  return table;
}

absl::Status OwnTable::CheckLower(Range range) const {
  if (range.end() > kLowerEnd) {
    return absl::InvalidArgumentError("the upper half of the addresses is every table's");
  }
  return absl::OkStatus();
}

absl::Status OwnTable::CheckChangeable() const {
  if (!is_template_.load()) return absl::OkStatus();
  return absl::FailedPreconditionError("clones use this table's own (PageTable::Sharing::kTemplate)");
}

absl::Status OwnTable::CheckChange(Range range) const {
  if (!IsInRing0()) return NotInRing0();
  if (absl::Status changeable = CheckChangeable(); !changeable.ok()) return changeable;
  return CheckLower(range);
}

absl::Status OwnTable::Map(Range where, std::uintptr_t memory,
                           const PageTable::MapOptions& options) {
  if (absl::Status may = CheckChange(where); !may.ok()) return may;
  const int level = options.page_size == PageSize::k2MiB ? 2 : 1;
  const std::size_t unit = level == 2 ? kLargePageSize : kPageSize;
  const std::lock_guard lock(mutex_);
  Area area;
  for (std::size_t at = 0; at < where.size; at += unit) {
    // What ring 0 has used before need not be asked about.
    const bool is_sure = (memory + at >= area.begin && memory + at + unit <= area.end) ||
                         (level == 1 && IsInUse(memory + at));
    if (!is_sure && (!vm.maps.Find(memory + at, &area) || area.end < memory + at + unit || area.rights == 0)) {
      return NothingAt(memory + at);
    }
    // Used once, it has guest-physical memory.
    static_cast<void>(*reinterpret_cast<volatile const char*>(memory + at));
    Entry* const entry = OwnEntry(where.begin + at, level);
    if (entry == nullptr) return NoFrame();
    std::uint64_t word =
        LeafWith(PhysicalOf(memory + at) | bits::kKnown | (level == 2 ? bits::kLarge : 0) |
                     (options.ring == Ring::kUser ? bits::kUser : 0),
                 options.rights);
    if (options.copy_on_write) word = Privately(word);
    const std::uint64_t old = entry->exchange(word);
    if (level == 2 && LeadsToTable(old) && (old & (bits::kForeign | bits::kShared)) == 0) {
      FlushRange(where);
      FreeTables(old & bits::kFrame, 1);
    } else {
      GiveBack(old);
    }
  }
  if (options.copy_on_write) ExpectCopies();
  FlushRange(where);
  return absl::OkStatus();
}

absl::Status OwnTable::MapFresh(Range where, Rights rights) {
  if (absl::Status changeable = CheckChangeable(); !changeable.ok()) return changeable;
  const std::lock_guard lock(mutex_);
  bool was_lent = false;
  for (std::uintptr_t page = where.begin; page < where.end(); page += kPageSize) {
    was_lent |= HasForeignTable(root(), page);
    Entry* const entry = OwnEntry(page, 1);
    if (entry == nullptr) return NoFrame();
    const std::uint64_t old = entry->load();
    if ((old & bits::kKnown) != 0) {
      return absl::AlreadyExistsError(absl::StrCat("0x", absl::Hex(page), " is mapped already"));
    }
    const std::uint64_t frame = TakeFrame();
    if (frame == 0) return NoFrame();
    KeepFrame(PhysicalOf(frame));
    entry->store(LeafWith(PhysicalOf(frame) | bits::kKnown | bits::kOwned | bits::kUser, rights));
  }
  // The processor may remember the way through the other's tables.
  if (was_lent) FlushRange(where);
  return absl::OkStatus();
}

absl::StatusOr<std::byte*> OwnTable::FindUserByte(std::uintptr_t address, Access access) {
  const auto none = [address] {
    return absl::OutOfRangeError(absl::StrCat("ring 3 may not use 0x", absl::Hex(address), " so"));
  };
  int level = 0;
  const Entry* entry = address < kLowerEnd ? FindLeaf(root(), address, &level) : nullptr;
  if (entry == nullptr) return none();
  std::uint64_t word = entry->load();
  constexpr std::uint64_t kNeeded = bits::kPresent | bits::kUser;
  if ((word & kNeeded) != kNeeded) return none();
  if (access == Access::kWrite && (word & bits::kCopyOnWrite) != 0) {
    bool no_frame = false;
    static_cast<void>(ResolveCopyOnWrite(root(), address, &no_frame));
    if (no_frame) return NoFrame();
    entry = FindLeaf(root(), address, &level);
    word = entry->load();
  }
  if (access == Access::kWrite && (word & bits::kWritable) == 0) return none();
  if (access == Access::kExecute && (word & bits::kNoExecute) != 0) return none();
  const std::uint64_t inside = x86::EntrySpan(level) - 1;
  return reinterpret_cast<std::byte*>(AddressOf(word & bits::kFrame & ~inside) + (address & inside));
}

absl::Status OwnTable::Unmap(Range range) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  const std::lock_guard lock(mutex_);
  std::vector<std::uint64_t> gone;
  for (std::uintptr_t page = range.begin; page < range.end();) {
    int level = 0;
    const Entry* const found = FindLeaf(root(), page, &level);
    const std::size_t span = x86::EntrySpan(level);
    const std::uintptr_t next = (page & ~(span - 1)) + span;
    if (found != nullptr && (found->load() & bits::kKnown) != 0) {
      if (level > 1 && ((page & (span - 1)) != 0 || next > range.end())) {
        return absl::InvalidArgumentError("a part of a large page");
      }
      Entry* const entry = OwnEntry(page, level);
      if (entry == nullptr) return NoFrame();
      gone.push_back(entry->exchange(0));
    }
    page = next;
  }
  FlushRange(range);
  for (const std::uint64_t word : gone) GiveBack(word);
  return absl::OkStatus();
}

absl::Status OwnTable::Protect(Range range, Rights rights) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  const std::lock_guard lock(mutex_);
  for (std::uintptr_t page = range.begin; page < range.end();) {
    int level = 0;
    const Entry* const found = FindLeaf(root(), page, &level);
    if (found == nullptr || (found->load() & bits::kKnown) == 0) return NothingAt(page);
    const std::size_t span = x86::EntrySpan(level);
    if (level > 1 && ((page & (span - 1)) != 0 || page + span > range.end())) {
      return absl::InvalidArgumentError("a part of a large page");
    }
    Entry* const entry = OwnEntry(page, level);
    if (entry == nullptr) return NoFrame();
    std::uint64_t old = entry->load(), fresh = 0;
    do {
      fresh = LeafWith(old, rights);
      // What is shared with another table stays so until it is written to.
      const bool shared = (old & (bits::kCopyOnWrite | bits::kPrivate)) != 0 ||
                          ((old & bits::kOwned) != 0 && ReferencesOf(old & bits::kFrame) > 1);
      if (shared && (fresh & bits::kWritable) != 0) {
        fresh = (fresh & ~bits::kWritable) | bits::kCopyOnWrite;
      }
    } while (!entry->compare_exchange_weak(old, fresh));
    page += span;
  }
  FlushRange(range);
  return absl::OkStatus();
}

absl::Status OwnTable::Share(Range range, Implementation& other) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  // Their tables are not to be changed behind somebody's back.
  if (absl::Status changeable = other.CheckRunnable(); !changeable.ok()) return changeable;
  const std::lock_guard lock(mutex_);
  for (std::uintptr_t at = range.begin; at < range.end(); at += x86::EntrySpan(3)) {
    Entry* const entry = OwnEntry(at, 3);
    if (entry == nullptr || MakeEntry(other.root(), at, 2) == nullptr) return NoFrame();
    const std::uint64_t theirs = FindEntry(other.root(), at, 3)->load();
    const std::uint64_t old = entry->exchange(theirs | bits::kShared);
    if (LeadsToTable(old) && (old & (bits::kForeign | bits::kShared)) == 0) {
      FlushRange(range);
      FreeTables(old & bits::kFrame, 2);
    }
  }
  FlushRange(range);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PageTable::Implementation>> OwnTable::Clone(
    PageTable::Sharing sharing) const {
  absl::StatusOr<std::unique_ptr<OwnTable>> clone = Create(PageTable::Contents::kEmpty);
  if (!clone.ok()) return clone.status();
  const std::lock_guard lock(mutex_);
  (*clone)->lender_ = lender_;
  if (sharing == PageTable::Sharing::kTemplate) {
    if (lender_ != nullptr || has_process_) {
      return absl::FailedPreconditionError("a template has tables of its own only, and nothing of the process's");
    }
    if (!is_template_.load()) {
      MakeTemplate();
      FlushRange({0, kLowerEnd});
      ExpectCopies();
      is_template_.store(true);
    }
    (*clone)->lender_ = tables_;
    LendTables((*clone)->root());
    return *std::move(clone);
  }
  const absl::Status copied = CopyInto(**clone, sharing);
  FlushRange({0, kLowerEnd});
  if (!copied.ok()) return copied;
  if (sharing == PageTable::Sharing::kCopyOnWrite) ExpectCopies();
  return *std::move(clone);
}

// With the lock.
void OwnTable::MakeTemplate() const {
  ForEachEntry(root(), 0, kLowerEnd, [](std::uint64_t, Entry& entry, int) {
    if ((entry.load() & bits::kKnown) != 0) MakeCopyOnWrite(entry);
  });
  for (unsigned index = 0; index < kLowerHalf; ++index) {
    if (LeadsToTable(TableAt(root())[index].load())) lent_entries_ = index + 1;
  }
}

void OwnTable::LendTables(std::uint64_t to) const {
  for (unsigned index = 0; index < lent_entries_; ++index) {
    const std::uint64_t word = TableAt(root())[index].load();
    if (LeadsToTable(word)) TableAt(to)[index].store(word | bits::kForeign);
  }
}

absl::Status OwnTable::CopyInto(OwnTable& clone, PageTable::Sharing sharing) const {
  Entry* const from = TableAt(root());
  absl::Status status;
  for (unsigned index = 0; index < kLowerHalf; ++index) {
    const std::uint64_t word = from[index].load();
    if ((word & bits::kForeign) != 0) {
      TableAt(clone.root())[index].store(word);
      continue;
    }
    if (!LeadsToTable(word)) continue;
    const std::uint64_t begin = index * x86::EntrySpan(4);
    ForEachEntry(
        root(), begin, begin + x86::EntrySpan(4), [&](std::uint64_t page, Entry& entry, int level) {
          if ((entry.load() & bits::kKnown) == 0 || !status.ok()) return;
          Entry* const to = clone.OwnEntry(page, level);
          if (to == nullptr) {
            status = NoFrame();
            return;
          }
          to->store(Lend(entry, sharing));
        });
  }
  return status;
}

absl::StatusOr<Mapping> OwnTable::Walk(std::uintptr_t address) const {
  int level = 0;
  const Entry* const entry = address < kLowerEnd ? FindLeaf(root(), address, &level) : nullptr;
  if (entry == nullptr || (entry->load() & bits::kKnown) == 0) return NothingAt(address);
  return MappingOf(address & ~(x86::EntrySpan(level) - 1), entry->load(), level);
}

absl::Status OwnTable::Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const {
  if (absl::Status lower = CheckLower(range); !lower.ok()) return lower;
  ForEachEntry(root(), range.begin, range.end(), [&](std::uint64_t page, Entry& entry, int level) {
    const std::uint64_t word = entry.load();
    if ((word & bits::kKnown) != 0) visitor(MappingOf(page, word, level));
  });
  return absl::OkStatus();
}

namespace {
std::uint64_t BitOf(Tracking tracking) {
  return tracking == Tracking::kDirty ? bits::kDirty : bits::kAccessed;
}
std::uint64_t TrackBitOf(Tracking tracking) {
  return tracking == Tracking::kDirty ? bits::kTrackDirty : bits::kTrackAccessed;
}
}  // namespace

absl::Status OwnTable::Track(Range range, Tracking tracking) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  for (std::uintptr_t page = range.begin; page < range.end();) {
    int level = 0;
    const Entry* const found = FindLeaf(root(), page, &level);
    if (found == nullptr || (found->load() & bits::kKnown) == 0) return NothingAt(page);
    Entry* const entry = OwnEntry(page, level);
    if (entry == nullptr) return NoFrame();
    entry->fetch_or(TrackBitOf(tracking));
    entry->fetch_and(~BitOf(tracking));
    page = (page & ~(x86::EntrySpan(level) - 1)) + x86::EntrySpan(level);
  }
  FlushRange(range);
  return absl::OkStatus();
}

absl::Status OwnTable::Untrack(Range range, Tracking tracking) {
  if (absl::Status lower = CheckLower(range); !lower.ok()) return lower;
  ForEachEntry(root(), range.begin, range.end(),
               [&](std::uint64_t, Entry& entry, int) { entry.fetch_and(~TrackBitOf(tracking)); });
  return absl::OkStatus();
}

absl::Status OwnTable::TestAndClear(Range range, Tracking tracking,
                                    absl::FunctionRef<void(Range)> visitor) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  std::vector<Range> found;
  std::size_t tracked = 0;
  ForEachEntry(root(), range.begin, range.end(), [&](std::uint64_t page, Entry& entry, int level) {
    if ((entry.load() & TrackBitOf(tracking)) == 0) return;
    const std::size_t size = x86::EntrySpan(level);
    tracked += size;
    if ((entry.fetch_and(~BitOf(tracking)) & BitOf(tracking)) == 0) return;
    if (!found.empty() && found.back().end() == page) {
      found.back().size += size;
    } else {
      found.push_back({page, size});
    }
  });
  if (tracked < range.size) {
    return absl::FailedPreconditionError("the range is not tracked; see PageTable::Track");
  }
  if (!found.empty()) FlushRange(range);
  for (const Range one : found) visitor(one);
  return absl::OkStatus();
}

absl::Status OwnTable::Activate() {
  if (!IsInRing0()) return NotInRing0();
  if (absl::Status changeable = CheckChangeable(); !changeable.ok()) return changeable;
  UseTable(root());
  return absl::OkStatus();
}

void OwnTable::Flush(Range range) {
  if (IsInRing0()) FlushRange(range);
}

}  // namespace dune::ring0
