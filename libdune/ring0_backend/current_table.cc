#include "libdune/ring0_backend/current_table.h"

#include <algorithm>

#include "libdune/ring0_backend/process_clone.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/ring0_backend/tracking.h"

namespace dune::ring0 {
namespace {

absl::Status NotTracked() {
  return absl::FailedPreconditionError("the range is not tracked; see PageTable::Track");
}

std::uint64_t LimitFor(Rights rights) {
  switch (rights) {
    case Rights::kNone:
      return bits::kLimited;
    case Rights::kRead:
      return bits::kLimited | bits::kMayRead;
    case Rights::kReadWrite:
      return bits::kLimited | bits::kMayRead | bits::kMayWrite;
    case Rights::kReadExecute:
      return bits::kLimited | bits::kMayRead | bits::kMayExecute;
    case Rights::kAll:
      return 0;
  }
  return 0;
}

Rights RightsOf(bool read, bool write, bool execute) {
  return static_cast<Rights>((read ? 1 : 0) | (write ? 2 : 0) | (execute ? 4 : 0));
}

// An entry that nothing is known of belongs to whatever the process has there.
Mapping MappingOf(std::uintptr_t page, std::uint64_t word, const Area& area) {
  if ((word & bits::kKnown) == 0) {
    word = WithRights((word & ~bits::kFrame) | bits::kKnown |
                      ((area.rights & Area::kWrite) != 0 ? bits::kGivenWrite : 0) |
                      ((area.rights & Area::kExecute) != 0 ? bits::kGivenExecute : 0));
  }
  const bool lent = (word & bits::kLent) != 0;
  if (lent) word = WithRights(word & ~bits::kLent);
  const bool present = (word & bits::kPresent) != 0 && area.rights != 0;
  return {.page = {page, kPageSize},
          .memory = page,
          .rights = RightsOf(present, present && (word & bits::kWritable) != 0,
                             present && (word & bits::kNoExecute) == 0),
          .dirty = (word & bits::kDirty) != 0,
          .accessed = (word & bits::kAccessed) != 0,
          .copy_on_write = lent && (word & bits::kWritable) != 0};
}

std::uint64_t WordAt(std::uintptr_t page) {
  const Entry* const entry = FindEntry(vm.root, page, 1);
  return entry == nullptr ? 0 : entry->load(std::memory_order_relaxed);
}

// The first address of the range where the process has nothing; its end: there is none.
std::uintptr_t FindHole(Range range) {
  std::uintptr_t at = range.begin;
  for (Area area; at < range.end() && vm.maps.Find(at, &area); at = area.end) {
  }
  return std::min(at, range.end());
}

bool Covers(const std::vector<Range>& ranges, Range range) {
  return range.size == 0 || std::ranges::any_of(ranges, [&](Range one) {
           return one.begin <= range.begin && range.end() <= one.end();
         });
}

// The parts of `range` in which something may be dirty, for whole tables of 2 MiB told by the
// accessed bit of the entry that leads there: it is cleared when all below is clean, and no write
// sets a dirty bit without setting it. Only here.
std::vector<Range> WrittenParts(Range range) {
  std::vector<Range> parts;
  for (std::uintptr_t at = range.begin; at < range.end();) {
    const std::uintptr_t begin = at & ~(kLargePageSize - 1);
    const std::uintptr_t next = std::min(range.end(), begin + kLargePageSize);
    Entry* const entry = FindEntry(vm.root, at, 2);
    if (entry == nullptr) {
      at = next;
      continue;
    }
    const bool whole = at == begin && next == begin + kLargePageSize;
    const std::uint64_t word =
        whole ? entry->fetch_and(~bits::kAccessed) : entry->load(std::memory_order_relaxed);
    if ((word & bits::kPresent) != 0 && (!whole || (word & bits::kAccessed) != 0)) {
      parts.push_back({at, next - at});
    }
    at = next;
  }
  return parts;
}

}  // namespace

namespace {

// Of every page it is known what the process has there, so there is something. Needs no system
// call.
bool IsKnown(Range range) {
  for (std::uintptr_t page = range.begin; page < range.end(); page += kPageSize) {
    const Entry* const entry = FindEntry(vm.root, page, 1);
    if (entry == nullptr || (entry->load(std::memory_order_relaxed) & bits::kKnown) == 0) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PageTable::Implementation>> CurrentTable::Clone(PageTable::Sharing sharing) const {
  if (sharing != PageTable::Sharing::kCopyOnWrite) {
    return absl::UnimplementedError("Current() is cloned copy-on-write only; what shares it is PageTable::Create's");
  }
  return ProcessClone::Create();
}

absl::Status CurrentTable::Protect(Range range, Rights rights) {
  if (!IsInRing0()) return NotInRing0();
  if (range.end() > kAddressesEnd) return NothingAt(kAddressesEnd);
  const std::uint64_t limit = LimitFor(rights);
  if (!IsKnown(range)) {
    if (const std::uintptr_t hole = FindHole(range); hole != range.end()) return NothingAt(hole);
  }
  bool less = false;
  absl::Status status;
  for (std::uintptr_t page = range.begin; page < range.end() && status.ok(); page += kPageSize) {
    Entry* const entry = MakeEntry(vm.root, page, 1);
    std::uint64_t old = entry == nullptr ? 0 : entry->load(std::memory_order_relaxed);
    if (entry == nullptr) {
      status = NoFrame();
      break;
    }
    if ((old & bits::kPinned) != 0) {
      status = absl::InvalidArgumentError("a page that ring 0 itself needs");
      break;
    }
    std::uint64_t fresh = 0;
    do {
      fresh = WithRights((old & ~bits::kLimit) | limit);
    } while (!entry->compare_exchange_weak(old, fresh));
    constexpr std::uint64_t kGrants = bits::kPresent | bits::kWritable;
    less |= (old & ~fresh & kGrants) != 0 || (fresh & ~old & bits::kNoExecute) != 0;
  }
  // A processor looks again by itself before it refuses something.
  if (less) FlushRange(range);
  return status;
}

absl::StatusOr<Mapping> CurrentTable::Walk(std::uintptr_t address) const {
  Area area;
  if (!vm.maps.Find(address, &area)) return NothingAt(address);
  const std::uintptr_t page = address & ~(kPageSize - 1);
  return MappingOf(page, WordAt(page), area);
}

absl::Status CurrentTable::Visit(Range range,
                                 absl::FunctionRef<void(const Mapping&)> visitor) const {
  Area area;
  for (std::uintptr_t at = range.begin; at < range.end() && vm.maps.FindFrom(at, &area);
       at = area.end) {
    const std::uintptr_t end = std::min<std::uintptr_t>(area.end, range.end());
    for (std::uintptr_t page = std::max<std::uintptr_t>(area.begin, at); page < end;
         page += kPageSize) {
      visitor(MappingOf(page, WordAt(page), area));
    }
  }
  return absl::OkStatus();
}

// A mapping that came where a tracked one went is not tracked: its entries do not say so.
void CurrentTable::LeaveOutUnmapped(Tracking tracking) {
  const auto kind = static_cast<unsigned>(tracking);
  const std::uint64_t lost = vm.tracking_lost.load();
  if (lost == lost_[kind]) return;
  lost_[kind] = lost;
  std::vector<Range> left;
  for (const Range one : tracked_[kind]) {
    ForEachEntry(vm.root, one.begin, one.end(), [&](std::uint64_t page, Entry& entry, int) {
      if ((entry.load() & TrackBitOf(tracking)) != 0) Append(left, {page, kPageSize});
    });
  }
  tracked_[kind] = std::move(left);
}

bool CurrentTable::IsTracked(Range range, Tracking tracking) {
  const std::lock_guard lock(mutex_);
  LeaveOutUnmapped(tracking);
  return Covers(tracked_[static_cast<unsigned>(tracking)], range);
}

absl::Status CurrentTable::Track(Range range, Tracking tracking) {
  if (!IsInRing0()) return NotInRing0();
  if (range.end() > kAddressesEnd) return NothingAt(kAddressesEnd);
  {
    const std::lock_guard lock(mutex_);
    LeaveOutUnmapped(tracking);
    if (const std::uintptr_t hole = FindHole(range); hole != range.end()) return NothingAt(hole);
    for (std::uintptr_t page = range.begin; page < range.end(); page += kPageSize) {
      Entry* const entry = MakeEntry(vm.root, page, 1);
      if (entry == nullptr) return NoFrame();
      entry->fetch_or(TrackBitOf(tracking));
    }
    auto& tracked = tracked_[static_cast<unsigned>(tracking)];
    // Neighbours and what overlaps become one range.
    Range all = range;
    std::erase_if(tracked, [&](Range one) {
      if (one.end() < all.begin || all.end() < one.begin) return false;
      const std::uintptr_t end = std::max(one.end(), all.end());
      all.begin = std::min(one.begin, all.begin);
      all.size = end - all.begin;
      return true;
    });
    tracked.push_back(all);
  }
  return TestAndClear(range, tracking, [](Range) {});
}

absl::Status CurrentTable::Untrack(Range range, Tracking tracking) {
  const std::lock_guard lock(mutex_);
  // What was unmapped meanwhile was tracked all the same.
  if (!Covers(tracked_[static_cast<unsigned>(tracking)], range)) return NotTracked();
  ForEachEntry(vm.root, range.begin, range.end(),
               [&](std::uint64_t, Entry& entry, int) { entry.fetch_and(~TrackBitOf(tracking)); });
  auto& tracked = tracked_[static_cast<unsigned>(tracking)];
  std::vector<Range> left;
  for (const Range one : tracked) {
    if (one.end() <= range.begin || range.end() <= one.begin) {
      left.push_back(one);
      continue;
    }
    if (one.begin < range.begin) left.push_back({one.begin, range.begin - one.begin});
    if (range.end() < one.end()) left.push_back({range.end(), one.end() - range.end()});
  }
  tracked = std::move(left);
  return absl::OkStatus();
}

absl::Status CurrentTable::TestAndClear(Range range, Tracking tracking,
                                        absl::FunctionRef<void(Range)> visitor) {
  if (!IsInRing0()) return NotInRing0();
  if (!IsTracked(range, tracking)) return NotTracked();
  std::vector<Range> parts;
  if (tracking == Tracking::kDirty) {
    parts = WrittenParts(range);
    // From here on a write shows in the upper entries again.
    FlushRange(range);
  } else {
    parts = {range};
  }
  const std::uint64_t bit = BitOf(tracking);
  std::vector<Range> found;
  for (const Range part : parts) {
    ForEachEntry(vm.root, part.begin, part.end(), [&](std::uint64_t page, Entry& entry, int) {
      if ((entry.load(std::memory_order_relaxed) & bit) == 0) return;
      entry.fetch_and(~bit);
      Append(found, {page, kPageSize});
    });
  }
  // First nobody writes any more without being noticed, then the visitor reads.
  if (!found.empty()) FlushRange(range);
  for (const Range one : found) visitor(one);
  return absl::OkStatus();
}

absl::Status CurrentTable::Activate() {
  if (!IsInRing0()) return NotInRing0();
  UseTable(vm.root);
  return absl::OkStatus();
}

void CurrentTable::Flush(Range range) {
  if (IsInRing0()) FlushRange(range);
}

std::uint64_t CurrentTable::root() const { return vm.root; }

}  // namespace dune::ring0
