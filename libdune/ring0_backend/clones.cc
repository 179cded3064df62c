#include "libdune/ring0_backend/clones.h"

#include <cerrno>

#include "libdune/ring0_backend/run_loop.h"

namespace dune::ring0 {
namespace {

// Page tables, and the counts of their frames, are no part of what a program would look at later.
bool IsOfPool(std::uint64_t page) {
  const auto counts = reinterpret_cast<std::uint64_t>(vm.references);
  return page - vm.pool < vm.pool_bytes || page - counts < vm.pool_bytes / kPage * sizeof(std::uint32_t);
}

bool CanBeLent(std::uint64_t page, std::uint64_t word) {
  return (word & bits::kKnown) != 0 && (word & bits::kPinned) == 0 && !IsOfPool(page);
}

// As whoever has given it has it; a limit of the program's is no business of a clone's.
std::uint64_t LentLeaf(std::uint64_t word) {
  return (word & bits::kFrame) | bits::kPresent | bits::kKnown | bits::kPrivate |
         ((word & bits::kGivenWrite) != 0 ? bits::kCopyOnWrite : 0) |
         ((word & bits::kGivenExecute) != 0 ? 0 : bits::kNoExecute);
}

void SetLent(Entry& entry, bool lent) {
  std::uint64_t old = entry.load(std::memory_order_relaxed), fresh = 0;
  do {
    fresh = WithRights(lent ? old | bits::kLent : old & ~bits::kLent);
  } while (!entry.compare_exchange_weak(old, fresh));
}

// A clone's leaf for a page that is about to change.
std::uint64_t KeptLeaf(std::uint64_t page, std::uint64_t leaf) {
  const std::uint64_t frame = TakeFrame(FrameFor::kOthers);
  if (frame == 0) return (leaf & bits::kFrame) | bits::kKnown;
  if (!ReadProgram(page, reinterpret_cast<void*>(frame), kPage)) {
    GiveFrame(frame);
    return 0;  // there is nothing behind it, as behind the end of a file
  }
  KeepFrame(PhysicalOf(frame));
  leaf &= ~(bits::kFrame | bits::kPrivate);
  if ((leaf & bits::kCopyOnWrite) != 0) leaf ^= bits::kCopyOnWrite | bits::kWritable;
  return leaf | PhysicalOf(frame) | bits::kOwned;
}

// Of the pages that a table of the process's leads to, from `begin` on. False: no frame.
bool LendTables(std::uint64_t physical, int level, std::uint64_t begin, std::uint64_t to) {
  Entry* lent = nullptr;
  bool is_whole = true;
  ForEachUsed(TableAt(physical), [&](unsigned index, Entry& entry) {
    const std::uint64_t at = begin + index * x86::EntrySpan(level);
    const std::uint64_t word = entry.load(std::memory_order_relaxed);
    if (!is_whole || at >= kAddressesEnd) return;
    if (level > 1) {
      if (LeadsToTable(word)) is_whole = LendTables(word & bits::kFrame, level - 1, at, to);
    } else if (CanBeLent(at, word)) {
      if (lent == nullptr) lent = MakeEntry(to, begin, 1);
      is_whole = lent != nullptr;
      if (!is_whole) return;
      lent[index].store(LentLeaf(word));
      SetLent(entry, true);
    }
  });
  return is_whole;
}

}  // namespace

long AddClone(std::uint64_t root) {
  std::uint64_t* place = nullptr;
  for (std::uint64_t& one : vm.clones) {
    if (one == 0) place = &one;
  }
  if (place == nullptr) return -EAGAIN;
  if (!LendTables(vm.root, 4, 0, root)) return -ENOMEM;
  *place = root;
  return 0;
}

void RemoveClone(std::uint64_t root) {
  for (std::uint64_t& one : vm.clones) {
    if (one == root) one = 0;
  }
}

void KeepPage(std::uint64_t page, Entry& entry) {
  for (const std::uint64_t clone : vm.clones) {
    Entry* const leaf = clone == 0 ? nullptr : FindEntry(clone, page, 1);
    const std::uint64_t word = leaf == nullptr ? 0 : leaf->load(std::memory_order_relaxed);
    if ((word & bits::kPrivate) != 0) leaf->store(KeptLeaf(page, word));
  }
  SetLent(entry, false);
}

void KeepRange(std::uint64_t begin, std::uint64_t size) {
  bool any = false;
  for (const std::uint64_t clone : vm.clones) any |= clone != 0;
  if (!any || begin >= kAddressesEnd || size > kAddressesEnd - begin) return;
  ForEachEntry(vm.root, begin & ~(kPage - 1), begin + size, [](std::uint64_t page, Entry& entry, int) {
    if ((entry.load(std::memory_order_relaxed) & bits::kLent) != 0) KeepPage(page, entry);
  });
}

}  // namespace dune::ring0
