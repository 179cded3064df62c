// Page-table entries as both ring 0 and the loops change them: one atomic word at a time, no lock,
// since a loop may have to answer a page fault of the very code that changes entries. Tables are
// added and never taken away while a table is in use. Tables lie in the process's own memory, so
// both sides use the same pointers.
//
//   Entry* entry = MakeEntry(vm.root, address, 1);
//   entry->store(...);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_ENTRIES_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_ENTRIES_H_

#include <atomic>
#include <cstdint>

#include "libdune/ring0_backend/vm.h"
#include "libdune/x86/page_table_entry.h"

namespace dune::ring0 {

using Entry = std::atomic<std::uint64_t>;
static_assert(sizeof(Entry) == 8);

// Bits that the processor leaves to us. [intel/vol3 §4.5]
namespace bits {
inline constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 1 << 5,
                               kDirty = 1 << 6, kLarge = 1 << 7;
inline constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 63;
inline constexpr std::uint64_t kFrame = 0x000f'ffff'ffff'f000;
// The program's own limit on the page's rights, PageTable::Protect: there is one, and what it
// allows.
inline constexpr std::uint64_t kLimited = 1 << 9, kMayRead = 1 << 10, kMayWrite = 1 << 11,
                               kMayExecute = std::uint64_t{1} << 52;
inline constexpr std::uint64_t kPinned = std::uint64_t{1} << 53;  // needed by the stubs: stays
inline constexpr std::uint64_t kOwned = std::uint64_t{1} << 54;   // the frame is the pool's
inline constexpr std::uint64_t kCopyOnWrite = std::uint64_t{1} << 55;
// What the process has given, in Current(); the frame is right even where the limit leaves the
// entry not present.
inline constexpr std::uint64_t kKnown = std::uint64_t{1} << 56,
                               kGivenWrite = std::uint64_t{1} << 57,
                               kGivenExecute = std::uint64_t{1} << 58;
// PageTable::Track. Protection keys, which these bits would be, are off in the guest.
inline constexpr std::uint64_t kTrackDirty = std::uint64_t{1} << 59,
                               kTrackAccessed = std::uint64_t{1} << 60;
inline constexpr std::uint64_t kTracked = kTrackDirty | kTrackAccessed;
// The frame is somebody else's: where writing is allowed it is kCopyOnWrite.
inline constexpr std::uint64_t kPrivate = std::uint64_t{1} << 61;
// In Current(): clones of it have the page in common, and get a copy before it is written to (clones.h).
inline constexpr std::uint64_t kLent = std::uint64_t{1} << 62;
// In a table of the program's own: of a leaf, what Current() has there, as it was when it was copied; of an entry that leads to a
// table, a copy of one of Current()'s, which may have got more since (ShowIn).
inline constexpr std::uint64_t kOfProcess = kLent;
// Of a leaf that owns its frame, in a table of the program's own: a clone may have the frame, too (OwnTable::Clone).
inline constexpr std::uint64_t kCloned = 1 << 11;
// Of a leaf there that has no kLimited: the process may not write to the memory, so that nobody may by this leaf.
inline constexpr std::uint64_t kReadOnly = 1 << 10;
// The whole word of an entry in such a table that the program has emptied: what Current() has there is not shown.
inline constexpr std::uint64_t kUnmapped = kLimited;
inline constexpr std::uint64_t kLimit = kLimited | kMayRead | kMayWrite | kMayExecute;
// Of an entry that leads to a table, which is another page table's: copied before it is changed, or
// changed for both (PageTable::Share).
inline constexpr std::uint64_t kForeign = 1 << 9, kShared = 1 << 10;
}  // namespace bits

// An entry of Current() with the processor's bits as given rights and limit have them.
constexpr std::uint64_t WithRights(std::uint64_t word) {
  word &= ~(bits::kPresent | bits::kWritable | bits::kNoExecute);
  if ((word & bits::kKnown) == 0) return word;
  const bool limited = (word & bits::kLimited) != 0;
  // On x86 what can be written or executed can be read.
  if (limited && (word & (bits::kMayRead | bits::kMayWrite | bits::kMayExecute)) == 0) return word;
  const bool write = (word & (bits::kGivenWrite | bits::kLent)) == bits::kGivenWrite &&
                     (!limited || (word & bits::kMayWrite) != 0);
  const bool execute =
      (word & bits::kGivenExecute) != 0 && (!limited || (word & bits::kMayExecute) != 0);
  return word | bits::kPresent | (write ? bits::kWritable : 0) | (execute ? 0 : bits::kNoExecute);
}
static_assert(WithRights(0x5000 | bits::kKnown | bits::kGivenWrite | bits::kGivenExecute) ==
              (0x5003 | bits::kKnown | bits::kGivenWrite | bits::kGivenExecute));
static_assert(WithRights(bits::kKnown | bits::kLimited) == (bits::kKnown | bits::kLimited));

// What a leaf of Current() is in another table that has it too: tracking and clones are Current()'s own.
constexpr std::uint64_t ForOthers(std::uint64_t word) {
  const std::uint64_t plain = word & ~(bits::kTracked | bits::kLent);
  return (word & bits::kLent) != 0 ? WithRights(plain) : plain;
}

inline Entry* TableAt(std::uint64_t word) {
  return reinterpret_cast<Entry*>(AddressOf(word & bits::kFrame));
}

// The entry of `level` for `address`; null: no table is there, or a large page is in the way.
inline Entry* FindEntry(std::uint64_t root, std::uint64_t address, int level) {
  Entry* table = TableAt(root);
  for (int at = 4; at > level; --at) {
    const std::uint64_t word = table[x86::TableIndex(address, at)].load(std::memory_order_acquire);
    if ((word & bits::kPresent) == 0 || (word & bits::kLarge) != 0) return nullptr;
    table = TableAt(word);
  }
  return &table[x86::TableIndex(address, level)];
}

// The leaf that maps an address, at level 1 or a large page's, as it was when it was looked at: another thread may make a large one a
// table at any time. A null entry: none.
struct Leaf {
  Entry* entry;
  std::uint64_t word;
  int level;
};
inline Leaf LeafAt(std::uint64_t root, std::uint64_t address) {
  Entry* table = TableAt(root);
  for (int at = 4;; --at) {
    Entry* const entry = &table[x86::TableIndex(address, at)];
    const std::uint64_t word = entry->load(std::memory_order_acquire);
    if (at == 1 || (word & bits::kLarge) != 0) return {entry, word, at};
    if ((word & bits::kPresent) == 0) return {nullptr, 0, at};
    table = TableAt(word);
  }
}
inline Entry* FindLeaf(std::uint64_t root, std::uint64_t address, int* level) {
  const Leaf leaf = LeafAt(root, address);
  *level = leaf.level;
  return leaf.entry;
}

// A leaf becomes what to(leaf) says. False: it was a large page, and is a table now.
template <typename To>
bool ChangeLeaf(Entry& entry, int level, To to) {
  std::uint64_t old = entry.load();
  do {
    if (level > 1 && (old & bits::kLarge) == 0) return false;
  } while (!entry.compare_exchange_weak(old, to(old)));
  return true;
}

// Makes the tables on the way. Null: no frame, or a large page is in the way.
inline Entry* MakeEntry(std::uint64_t root, std::uint64_t address, int level) {
  Entry* table = TableAt(root);
  for (int at = 4; at > level; --at) {
    Entry& entry = table[x86::TableIndex(address, at)];
    std::uint64_t word = entry.load(std::memory_order_acquire);
    if ((word & bits::kPresent) == 0) {
      const std::uint64_t frame = TakeFrame(root == vm.root ? FrameFor::kCurrent : FrameFor::kOthers);
      if (frame == 0) return nullptr;
      const std::uint64_t fresh =
          PhysicalOf(frame) | bits::kPresent | bits::kWritable | bits::kUser;
      if (entry.compare_exchange_strong(word, fresh, std::memory_order_acq_rel)) {
        word = fresh;
      } else {
        GiveFrame(frame);  // somebody else was faster
      }
    }
    if ((word & bits::kLarge) != 0) return nullptr;
    table = TableAt(word);
  }
  return &table[x86::TableIndex(address, level)];
}

inline bool LeadsToTable(std::uint64_t word) {
  return (word & bits::kPresent) != 0 && (word & bits::kLarge) == 0;
}

// Calls visit(index, entry) for the entries of a table that are not 0. Most tables are nearly empty, so these are looked for by
// eight.
template <typename AnyEntry, typename Visit>
void ForEachUsed(AnyEntry* table, Visit visit) {
  constexpr unsigned kTogether = 8;
  for (unsigned first = 0; first < x86::kEntriesPerTable; first += kTogether) {
    std::uint64_t any = 0;
    for (unsigned index = first; index < first + kTogether; ++index) any |= table[index].load(std::memory_order_relaxed);
    if (any == 0) continue;
    for (unsigned index = first; index < first + kTogether; ++index) {
      if (table[index].load(std::memory_order_relaxed) != 0) visit(index, table[index]);
    }
  }
}

// As MakeEntry; another page table's tables are copied on the way, but for shared ones. Those of a template never
// change, so that several may do this at once; of the process's there has to be a lock.
Entry* OwnEntry(std::uint64_t root, std::uint64_t address, int level);
// Whether it would have to copy one on the way to an entry of `level`.
bool HasForeignTable(std::uint64_t root, std::uint64_t address, int level = 1);

// Calls visit(address, entry, level) for every entry of a page, present or not, in [begin, end) for
// which there is a table; for large pages the entry of level 2.
template <typename Visit>
void ForEachEntry(std::uint64_t root, std::uint64_t begin, std::uint64_t end, Visit visit) {
  std::uint64_t address = begin;
  while (address < end) {
    Entry* table = TableAt(root);
    std::uint64_t span = 0;
    for (int at = 4; at > 1; --at) {
      Entry& entry = table[x86::TableIndex(address, at)];
      const std::uint64_t word = entry.load(std::memory_order_acquire);
      if (at == 2 && (word & bits::kLarge) != 0) {
        visit(address & ~(x86::EntrySpan(2) - 1), entry, 2);
        span = x86::EntrySpan(2);
        break;
      }
      if ((word & bits::kPresent) == 0) {
        span = x86::EntrySpan(at);
        break;
      }
      table = TableAt(word);
    }
    if (span != 0) {
      address = (address & ~(span - 1)) + span;
      continue;
    }
    const std::uint64_t stop = (address & ~(x86::EntrySpan(2) - 1)) + x86::EntrySpan(2);
    for (; address < end && address < stop; address += kPage) {
      visit(address, table[x86::TableIndex(address, 1)], 1);
    }
  }
}

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_ENTRIES_H_
