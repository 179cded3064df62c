// What one table of the program's own has of another: its memory (a clone), its very tables until one is changed (a clone of a
// template), or its very tables for good (Share).
#include <mutex>

#include "libdune/ring0_backend/flush.h"
#include "libdune/ring0_backend/own_table.h"

namespace dune::ring0 {
namespace {

// Of a template, in which nobody runs. What is tracked is each table's own business.
void MakeCopyOnWrite(Entry& entry) {
  ChangeLeaf(entry, 1, [](std::uint64_t leaf) {
    leaf &= ~bits::kTracked;
    if ((leaf & bits::kWritable) == 0) return leaf;
    return (leaf & ~bits::kWritable) | bits::kCopyOnWrite | ((leaf & bits::kOwned) == 0 ? bits::kPrivate : 0);
  });
}

// Returns what it is for the clone, which has a reference to the frame if the leaf owns it. A fault in another thread may put another
// frame there at any time. What the process has given stays the process's in both.
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
    if (sharing == PageTable::Sharing::kCopyOnWrite && (leaf & bits::kGivenWrite) == 0) {
      if ((lent & bits::kWritable) != 0) lent = (lent & ~bits::kWritable) | bits::kCopyOnWrite | (owned ? 0 : bits::kPrivate);
      if (owned && (lent & bits::kCopyOnWrite) != 0) lent |= bits::kCloned;
    }
    if (entry.compare_exchange_strong(leaf, lent)) return lent;
    if (owned) DropFrame(frame);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PageTable::Implementation>> OwnTable::Clone(
    PageTable::Sharing sharing) const {
  absl::StatusOr<std::unique_ptr<OwnTable>> clone = Create(PageTable::Contents::kEmpty);
  if (!clone.ok()) return clone.status();
  const std::lock_guard lock(mutex_);
  (*clone)->lender_ = lender_;
  (*clone)->has_process_ = has_process_;
  if (sharing == PageTable::Sharing::kTemplate) {
    if (lender_ != nullptr || has_process_ || shares_) {
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
  if (sharing == PageTable::Sharing::kCopyOnWrite) ExpectCopies();
  const absl::Status copied = CopyTables(root(), 4, 0, **clone, sharing);
  FlushRange({0, kLowerEnd});
  if (!copied.ok()) return copied;
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

// With the lock: what a table of `level` leads to, from `begin` on. The tables of somebody else's are somebody else's for the clone, too.
absl::Status OwnTable::CopyTables(std::uint64_t table, int level, std::uint64_t begin, OwnTable& clone,
                                  PageTable::Sharing sharing) const {
  absl::Status status;
  ForEachUsed(TableAt(table), [&](unsigned index, Entry& entry) {
    if (!status.ok() || (level == 4 && index >= kLowerHalf)) return;
    const std::uint64_t at = begin + index * x86::EntrySpan(level);
    const std::uint64_t word = entry.load();
    const bool leads = level > 1 && LeadsToTable(word);
    if (leads && (word & bits::kForeign) == 0) {
      if ((word & bits::kOfProcess) != 0) {
        Entry* const to = clone.OwnEntry(at, level - 1) != nullptr ? FindEntry(clone.root(), at, level) : nullptr;
        if (to == nullptr) {
          status = NoFrame();
          return;
        }
        to->fetch_or(bits::kOfProcess);
      }
      status = CopyTables(word & bits::kFrame, level - 1, at, clone, sharing);
    } else {
      Entry* const to = clone.OwnEntry(at, level);
      if (to == nullptr) {
        status = NoFrame();
      } else {
        to->store(leads ? word : Lend(entry, sharing));
      }
    }
  });
  return status;
}

// With the lock: the entry of level 3 becomes one that another table may have, too.
absl::StatusOr<std::uint64_t> OwnTable::EntryToShare(std::uintptr_t at) {
  if (OwnEntry(at, 2) == nullptr) return NoFrame();
  // What lies below goes with whoever is last; so a template's tables do not lie there.
  for (std::uintptr_t part = at; lender_ != nullptr && part < at + x86::EntrySpan(3); part += x86::EntrySpan(2)) {
    if (HasForeignTable(root(), part) && OwnEntry(part, 1) == nullptr) return NoFrame();
  }
  Entry* const entry = FindEntry(root(), at, 3);
  const std::uint64_t word = entry->load();
  if ((word & bits::kShared) == 0) {
    KeepFrame(word & bits::kFrame);
    entry->fetch_or(bits::kShared);
    shares_ = true;
  }
  return entry->load();
}

absl::Status OwnTable::Share(Range range, Implementation& other) {
  if (absl::Status may = CheckChange(range); !may.ok()) return may;
  if (other.root() == root()) return absl::InvalidArgumentError("a table shared with itself");
  // Their tables are not to be changed behind somebody's back.
  if (absl::Status changeable = other.CheckRunnable(); !changeable.ok()) return changeable;
  // All others that ring 3 may run in are of this kind.
  OwnTable* const theirs = other.root() == vm.root ? nullptr : static_cast<OwnTable*>(&other);
  std::unique_lock<std::mutex> lock(mutex_, std::defer_lock), their_lock;
  if (theirs != nullptr) {
    their_lock = std::unique_lock<std::mutex>(theirs->mutex_, std::defer_lock);
    std::lock(lock, their_lock);
    if (absl::Status changeable = theirs->CheckChangeable(); !changeable.ok()) return changeable;
  } else {
    lock.lock();
  }
  Replaced replaced(range);
  for (std::uintptr_t at = range.begin; at < range.end(); at += x86::EntrySpan(3)) {
    Entry* const entry = OwnEntry(at, 3);
    if (entry == nullptr || (theirs == nullptr && MakeEntry(vm.root, at, 2) == nullptr)) return NoFrame();
    const Entry* const process = FindEntry(vm.root, at, 2);
    if (process != nullptr && FindEntry(other.root(), at, 2) == process) {
      // As Contents::kProcess has it: the process's, until this table changes something there.
      replaced.Add(entry->exchange(FindEntry(vm.root, at, 3)->load() | bits::kForeign), 3);
      has_process_ = true;
      continue;
    }
    const absl::StatusOr<std::uint64_t> word = theirs->EntryToShare(at);
    if (!word.ok()) return word.status();
    KeepFrame(*word & bits::kFrame);
    replaced.Add(entry->exchange(*word), 3);
    has_process_ |= theirs->has_process_;
    shares_ = true;
  }
  return absl::OkStatus();
}

}  // namespace dune::ring0
