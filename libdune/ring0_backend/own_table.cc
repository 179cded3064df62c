#include "libdune/ring0_backend/own_table.h"

#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "libdune/ring0_backend/flush.h"
#include "libdune/ring0_backend/mirror.h"
#include "libdune/ring0_backend/tracking.h"

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

// What was as Current() has it is from now on as this table says.
std::uint64_t TakenOver(std::uint64_t word) {
  if ((word & bits::kOfProcess) == 0) return word;
  return (word & ~(bits::kOfProcess | bits::kLimit)) | ((word & bits::kGivenWrite) != 0 ? 0 : bits::kReadOnly);
}

std::uint64_t Privately(std::uint64_t word) {
  const bool may_write = (word & bits::kWritable) != 0;
  return (word & ~bits::kWritable) | bits::kPrivate | (may_write ? bits::kCopyOnWrite : 0);
}

// What the process may do with a page, by what ring 0 has used: then it need not be asked about.
std::optional<unsigned> RightsInUse(std::uint64_t address) {
  const Entry* const entry = FindEntry(vm.root, address, 1);
  const std::uint64_t word = entry == nullptr ? 0 : entry->load();
  if ((word & bits::kPresent) == 0 || (word & bits::kKnown) == 0) return std::nullopt;
  return Area::kRead | ((word & bits::kGivenWrite) != 0 ? Area::kWrite : 0u);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OwnTable>> OwnTable::Create(PageTable::Contents contents) {
  if (!IsInRing0()) return NotInRing0();
  const std::uint64_t frame = TakeFrame(FrameFor::kOthers);
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

absl::Status OwnTable::CheckWholePages(Range range) const {
  if (range.size == 0) return absl::OkStatus();
  // Whatever lies between is whole.
  for (const std::uintptr_t edge : {range.begin, range.end()}) {
    const Leaf leaf = edge < kLowerEnd ? LeafAt(root(), edge) : Leaf{};
    const bool is_inside = leaf.entry != nullptr && leaf.level > 1 && (edge & (x86::EntrySpan(leaf.level) - 1)) != 0;
    if (is_inside && (leaf.word & bits::kKnown) != 0) return absl::InvalidArgumentError("a part of a large page");
  }
  return absl::OkStatus();
}

absl::Status OwnTable::CheckMapped(Range range) const {
  for (std::uintptr_t page = range.begin; page < range.end();) {
    const Leaf leaf = LeafAt(root(), page);
    if (leaf.entry == nullptr || (leaf.word & bits::kKnown) == 0) return NothingAt(page);
    page += x86::EntrySpan(leaf.level);
  }
  return absl::OkStatus();
}

absl::Status OwnTable::Map(Range where, std::uintptr_t memory,
                           const PageTable::MapOptions& options) {
  if (absl::Status may = CheckChange(where); !may.ok()) return may;
  const int level = options.page_size == PageSize::k2MiB ? 2 : 1;
  const std::size_t unit = level == 2 ? kLargePageSize : kPageSize;
  const bool writes = !options.copy_on_write && (static_cast<unsigned>(options.rights) & 2) != 0;
  const std::lock_guard lock(mutex_);
  if (absl::Status whole = CheckWholePages(where); !whole.ok()) return whole;
  if (options.copy_on_write) ExpectCopies();
  Replaced replaced(where);
  Area area;
  for (std::size_t at = 0; at < where.size; at += unit) {
    const std::uintptr_t from = memory + at;
    std::optional<unsigned> rights = level == 1 ? RightsInUse(from) : std::nullopt;
    if (!rights) {
      const bool is_there = (from >= area.begin && from + unit <= area.end) ||
                            (vm.maps.Find(from, &area) && from + unit <= area.end);
      if (!is_there || area.rights == 0) return NothingAt(from);
      rights = area.rights;
    }
    if (writes && (*rights & Area::kWrite) == 0) {
      return absl::PermissionDeniedError(absl::StrCat("the process may not write to 0x", absl::Hex(from)));
    }
    // Used once, it has guest-physical memory.
    static_cast<void>(*reinterpret_cast<volatile const char*>(from));
    // Small pages in the place of a large one.
    if (const Leaf old = LeafAt(root(), where.begin + at); level == 1 && old.entry != nullptr && old.level == 2) {
      Entry* const entry = OwnEntry(where.begin + at, 2);
      if (entry == nullptr) return NoFrame();
      replaced.Add(entry->exchange(0), 2);
    }
    Entry* const entry = OwnEntry(where.begin + at, level);
    if (entry == nullptr) return NoFrame();
    std::uint64_t word =
        LeafWith(PhysicalOf(from) | bits::kKnown | (level == 2 ? bits::kLarge : 0) |
                     (options.ring == Ring::kUser ? bits::kUser : 0) |
                     ((*rights & Area::kWrite) != 0 || options.copy_on_write ? 0 : bits::kReadOnly),
                 options.rights);
    if (options.copy_on_write) word = Privately(word);
    replaced.Add(entry->exchange(word), level);
  }
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
    const std::uint64_t frame = TakeFrame(FrameFor::kOthers);
    if (frame == 0) return NoFrame();
    KeepFrame(PhysicalOf(frame));
    entry->store(LeafWith(PhysicalOf(frame) | bits::kKnown | bits::kOwned | bits::kUser, rights));
  }
  // The processor may remember the way through the other's tables.
  if (was_lent) FlushRange(where);
  return absl::OkStatus();
}

absl::Status OwnTable::Look(absl::FunctionRef<absl::Status()> look) const {
  const std::lock_guard lock(mutex_);
  return look();
}

absl::Status OwnTable::Change(absl::FunctionRef<absl::Status()> change) {
  const std::lock_guard lock(mutex_);
  if (absl::Status changeable = CheckChangeable(); !changeable.ok()) return changeable;
  return change();
}

absl::StatusOr<std::byte*> OwnTable::FindUserByte(std::uintptr_t address, Access access) {
  const auto none = [address] {
    return absl::OutOfRangeError(absl::StrCat("ring 3 may not use 0x", absl::Hex(address), " so"));
  };
  if (address >= kLowerEnd) return none();
  Leaf leaf = LeafAt(root(), address);
  constexpr std::uint64_t kNeeded = bits::kPresent | bits::kUser;
  if (leaf.entry == nullptr || (leaf.word & kNeeded) != kNeeded) return none();
  if (access == Access::kWrite) {
    bool no_frame = false;
    leaf = LeafToWrite(root(), address, &no_frame);
    if (no_frame) return NoFrame();
    if ((leaf.word & bits::kWritable) == 0) return none();
  }
  if (access == Access::kExecute && (leaf.word & bits::kNoExecute) != 0) return none();
  const std::uint64_t inside = x86::EntrySpan(leaf.level) - 1;
  return reinterpret_cast<std::byte*>(AddressOf(leaf.word & bits::kFrame & ~inside) + (address & inside));
}

absl::Status OwnTable::Unmap(Range range) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  const std::lock_guard lock(mutex_);
  if (absl::Status whole = CheckWholePages(range); !whole.ok()) return whole;
  Replaced replaced(range);
  for (std::uintptr_t page = range.begin; page < range.end();) {
    const Leaf found = LeafAt(root(), page);
    const std::size_t span = x86::EntrySpan(found.level);
    if (found.entry != nullptr && (found.word & bits::kKnown) != 0) {
      Entry* const entry = OwnEntry(page, found.level);
      if (entry == nullptr) return NoFrame();
      const bool is_of_process = (FindEntry(root(), page, found.level + 1)->load() & bits::kOfProcess) != 0;
      replaced.Add(entry->exchange(is_of_process ? bits::kUnmapped : 0), found.level);
    }
    page = (page & ~(span - 1)) + span;
  }
  return absl::OkStatus();
}

absl::Status OwnTable::Protect(Range range, Rights rights) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  const std::lock_guard lock(mutex_);
  if (absl::Status whole = CheckWholePages(range); !whole.ok()) return whole;
  if (absl::Status mapped = CheckMapped(range); !mapped.ok()) return mapped;
  const Replaced nothing(range);
  for (std::uintptr_t page = range.begin; page < range.end();) {
    const Leaf found = LeafAt(root(), page);
    const bool writes = (static_cast<unsigned>(rights) & 2) != 0;
    Entry* const entry = OwnEntry(page, found.level);
    if (entry == nullptr) return NoFrame();
    if (writes && (TakenOver(entry->load()) & (bits::kReadOnly | bits::kLimited)) == bits::kReadOnly) {
      return absl::PermissionDeniedError(absl::StrCat("the process may not write to what lies at 0x", absl::Hex(page)));
    }
    const bool changed = ChangeLeaf(*entry, found.level, [rights](std::uint64_t old) {
      const std::uint64_t fresh = LeafWith(TakenOver(old), rights);
      // What is shared with another table stays so until it is written to.
      const bool shared = (old & (bits::kCopyOnWrite | bits::kPrivate)) != 0 ||
                          ((old & bits::kOwned) != 0 && ReferencesOf(old & bits::kFrame) > 1);
      if (!shared || (fresh & bits::kWritable) == 0) return fresh;
      return (fresh & ~bits::kWritable) | bits::kCopyOnWrite;
    });
    if (changed) page += x86::EntrySpan(found.level);
  }
  return absl::OkStatus();
}

absl::StatusOr<Mapping> OwnTable::Walk(std::uintptr_t address) const {
  const Leaf leaf = address < kLowerEnd ? LeafAt(root(), address) : Leaf{};
  if (leaf.entry == nullptr || (leaf.word & bits::kKnown) == 0) return NothingAt(address);
  return MappingOf(address & ~(x86::EntrySpan(leaf.level) - 1), leaf.word, leaf.level);
}

absl::Status OwnTable::Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const {
  if (absl::Status lower = CheckLower(range); !lower.ok()) return lower;
  // What a change takes away is another's at once.
  const std::lock_guard lock(mutex_);
  ForEachEntry(root(), range.begin, range.end(), [&](std::uint64_t page, Entry& entry, int level) {
    const std::uint64_t word = entry.load();
    if ((word & bits::kKnown) != 0) visitor(MappingOf(page, word, level));
  });
  return absl::OkStatus();
}

absl::Status OwnTable::Track(Range range, Tracking tracking) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  const std::lock_guard lock(mutex_);
  if (absl::Status whole = CheckWholePages(range); !whole.ok()) return whole;
  if (absl::Status mapped = CheckMapped(range); !mapped.ok()) return mapped;
  const Replaced nothing(range);
  for (std::uintptr_t page = range.begin; page < range.end();) {
    const Leaf found = LeafAt(root(), page);
    Entry* const entry = OwnEntry(page, found.level);
    if (entry == nullptr) return NoFrame();
    const auto clean = [tracking](std::uint64_t old) { return (old | TrackBitOf(tracking)) & ~BitOf(tracking); };
    if (ChangeLeaf(*entry, found.level, clean)) page += x86::EntrySpan(found.level);
  }
  return absl::OkStatus();
}

absl::Status OwnTable::Untrack(Range range, Tracking tracking) {
  if (absl::Status lower = CheckLower(range); !lower.ok()) return lower;
  const std::lock_guard lock(mutex_);
  if (absl::Status whole = CheckWholePages(range); !whole.ok()) return whole;
  ForEachEntry(root(), range.begin, range.end(),
               [&](std::uint64_t, Entry& entry, int) { entry.fetch_and(~TrackBitOf(tracking)); });
  return absl::OkStatus();
}

absl::Status OwnTable::TestAndClear(Range range, Tracking tracking,
                                    absl::FunctionRef<void(Range)> visitor) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  std::vector<Range> found;
  std::size_t tracked = 0;
  {
    const std::lock_guard lock(mutex_);
    if (absl::Status whole = CheckWholePages(range); !whole.ok()) return whole;
    ForEachEntry(root(), range.begin, range.end(), [&](std::uint64_t page, Entry& entry, int level) {
      if ((entry.load() & TrackBitOf(tracking)) == 0) return;
      const std::size_t size = x86::EntrySpan(level);
      tracked += size;
      if ((entry.fetch_and(~BitOf(tracking)) & BitOf(tracking)) == 0) return;
      Append(found, {page, size});
    });
    if (tracked < range.size) {
      return absl::FailedPreconditionError("the range is not tracked; see PageTable::Track");
    }
    if (!found.empty()) FlushRange(range);
  }
  for (const Range one : found) visitor(one);
  return absl::OkStatus();
}

absl::Status OwnTable::Activate() {
  if (!IsInRing0()) return NotInRing0();
  if (absl::Status changeable = CheckChangeable(); !changeable.ok()) return changeable;
  if (!ShowHandlerStack(root(), State())) return NoFrame();
  UseTable(root());
  return absl::OkStatus();
}

void OwnTable::Flush(Range range) {
  if (IsInRing0()) FlushRange(range);
}

}  // namespace dune::ring0
