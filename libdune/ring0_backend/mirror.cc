#include "libdune/ring0_backend/mirror.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "libdune/ring0_backend/clones.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/x86/control.h"
#include "libdune/x86/descriptor.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace dune::ring0 {
namespace {

// What stays in an entry whose page is looked up again.
constexpr std::uint64_t kKept =
    bits::kLimit | bits::kTracked | bits::kLent | bits::kPinned | bits::kAccessed | bits::kDirty;

unsigned LimitOf(std::uint64_t word) {
  if ((word & bits::kLimited) == 0) return Area::kRead | Area::kWrite | Area::kExecute;
  return ((word & bits::kMayRead) != 0 ? Area::kRead : 0) |
         ((word & bits::kMayWrite) != 0 ? Area::kWrite : 0) |
         ((word & bits::kMayExecute) != 0 ? Area::kExecute : 0);
}

// The leaf for a page of `rights`, whose entry is `old`.
std::uint64_t LeafFor(std::uint64_t physical, unsigned rights, std::uint64_t old) {
  const std::uint64_t kept = old & kKept;
  if (rights == 0) return kept;
  return WithRights(kept | physical | bits::kKnown |
                    ((rights & Area::kWrite) != 0 ? bits::kGivenWrite : 0) |
                    ((rights & Area::kExecute) != 0 ? bits::kGivenExecute : 0));
}

unsigned NeededFor(std::uint64_t error_code) {
  if ((error_code & x86::page_fault::kWrite) != 0) return Area::kWrite;
  if ((error_code & x86::page_fault::kInstruction) != 0) return Area::kExecute;
  return Area::kRead;
}

// On x86 what can be written or executed can be read.
bool Allows(unsigned rights, unsigned needed) {
  return needed == Area::kRead ? rights != 0 : (rights & needed) != 0;
}

// Entries of the area's part of the 2 MiB around `address`.
bool FillSpan(const Area& area, std::uint64_t address) {
  const std::uint64_t span = address & ~(x86::EntrySpan(2) - 1);
  const std::uint64_t begin = std::max(area.begin, span);
  const std::uint64_t end = std::min(area.end, span + x86::EntrySpan(2));
  if (!AddGranule(address)) return false;
  for (std::uint64_t page = begin; page < end; page += kPage) {
    Entry* const entry = MakeEntry(vm.root, page, 1);
    if (entry == nullptr) return false;
    std::uint64_t old = entry->load(std::memory_order_relaxed);
    while (!entry->compare_exchange_weak(old, LeafFor(PhysicalOf(page), area.rights, old))) {
    }
  }
  return true;
}

// Nothing but a clone of Current() stands in the way of a write.
bool IsOnlyLent(std::uint64_t word) {
  return (word & bits::kLent) != 0 && (WithRights(word & ~bits::kLent) & bits::kWritable) != 0;
}

}  // namespace

Filled Fill(std::uint64_t address, std::uint64_t error_code) {
  if (address >= kAddressesEnd) return Filled::kNotMapped;
  const std::uint64_t page = address & ~(kPage - 1);
  const unsigned needed = NeededFor(error_code);
  const LoopLock::Holder holder(vm.lock);
  Entry* const known = FindEntry(vm.root, page, 1);
  if (known != nullptr && needed == Area::kWrite && IsOnlyLent(known->load())) {
    KeepPage(page, *known);
    return Filled::kYes;
  }
  Area area;
  if (!vm.maps.Find(address, &area)) return Filled::kNotMapped;
  if (!Allows(area.rights, needed)) return Filled::kForbidden;
  if (known != nullptr && !Allows(LimitOf(known->load()) & area.rights, needed)) return Filled::kLimited;
  if (area.of_file && RawCall(SYS_madvise, page, kPage, MADV_POPULATE_READ) == -EFAULT) {
    return Filled::kNoBacking;
  }
  return FillSpan(area, address) ? Filled::kYes : Filled::kNoRoom;
}

namespace {

// In a table of the program's own.
Filled Granted(std::uint64_t leaf, std::uint64_t error_code) {
  if ((leaf & bits::kKnown) == 0) return Filled::kNotMapped;
  const unsigned rights = (leaf & bits::kPresent) == 0 ? 0
                                                       : Area::kRead | ((leaf & bits::kWritable) != 0 ? Area::kWrite : 0) |
                                                             ((leaf & bits::kNoExecute) != 0 ? 0 : Area::kExecute);
  return Allows(rights, NeededFor(error_code)) ? Filled::kYes : Filled::kLimited;
}

// What is the table's own: whether it is tracked, and what the processor has noted.
constexpr std::uint64_t kOwnBits = bits::kTracked | bits::kAccessed | bits::kDirty;

void DropCopiesIn(std::uint64_t table, int level) {
  ForEachUsed(TableAt(table), [level](unsigned index, Entry& entry) {
    constexpr unsigned kUpperHalf = x86::kEntriesPerTable / 2;
    std::uint64_t word = entry.load();
    if (level > 1) {
      const bool is_own = LeadsToTable(word) && (word & bits::kForeign) == 0;
      if (is_own && (level < 4 || index < kUpperHalf)) DropCopiesIn(word & bits::kFrame, level - 1);
      return;
    }
    while ((word & bits::kOfProcess) != 0 &&
           !entry.compare_exchange_weak(word, word & ~(bits::kPresent | bits::kWritable))) {
    }
  });
}

}  // namespace

Filled ShowIn(std::uint64_t root, std::uint64_t address, std::uint64_t error_code) {
  if (root == vm.root) return Filled::kYes;
  const Entry* known = TableAt(vm.root);
  Entry* table = TableAt(root);
  bool is_of_process = false;
  for (int at = 4; at > 1; --at) {
    const unsigned index = x86::TableIndex(address, at);
    const std::uint64_t theirs = known[index].load(std::memory_order_acquire);
    std::uint64_t word = table[index].load(std::memory_order_acquire);
    // Around what it has changed it has tables of its own, which do not know those that the process got later.
    if (word == 0 && is_of_process && LeadsToTable(theirs)) {
      table[index].compare_exchange_strong(word, theirs | bits::kForeign);
      return Filled::kYes;
    }
    if (!LeadsToTable(word) || !LeadsToTable(theirs)) return Granted(word, error_code);
    is_of_process = (word & bits::kOfProcess) != 0;
    known = TableAt(theirs);
    table = TableAt(word);
  }
  if (known == table) return Filled::kYes;
  const unsigned index = x86::TableIndex(address, 1);
  std::uint64_t old = table[index].load();
  const bool is_copy = (old & bits::kOfProcess) != 0 || (old == 0 && is_of_process);
  if (!is_copy) return Granted(old, error_code);
  // The process's rights may have changed since. Where another thread was faster the access is made again.
  table[index].compare_exchange_strong(old, ForOthers(known[index].load()) | bits::kOfProcess | (old & kOwnBits));
  return Filled::kYes;
}

bool ShowHandlerStack(std::uint64_t root, const VcpuState& state) {
  constexpr std::uint64_t kWrite = x86::page_fault::kWrite;
  for (std::uint64_t page = state.handler_low; page < state.handler_top; page += kPage) {
    if (ShowIn(root, page, kWrite) == Filled::kYes) continue;
    // A table without the process's.
    Entry* const entry = OwnEntry(root, page, 1);
    if (entry == nullptr) return false;
    entry->store(FindEntry(vm.root, page, 1)->load() | bits::kOfProcess);
  }
  return true;
}

void DropCopies(std::uint64_t root) {
  if (root != vm.root) DropCopiesIn(root, 4);
}

void Forget(std::uint64_t begin, std::uint64_t size) {
  if (begin >= kAddressesEnd || size > kAddressesEnd - begin) return;  // the kernel refuses it
  KeepRange(begin, size);
  ForEachEntry(vm.root, begin & ~(kPage - 1), begin + size, [](std::uint64_t, Entry& entry, int) {
    if ((entry.load(std::memory_order_relaxed) & bits::kPinned) != 0) return;
    if ((entry.exchange(0) & bits::kTracked) != 0) vm.tracking_lost.fetch_add(1);
  });
}

void Drop(std::uint64_t begin, std::uint64_t size) {
  if (begin >= kAddressesEnd || size > kAddressesEnd - begin) return;
  ForEachEntry(vm.root, begin & ~(kPage - 1), begin + size, [](std::uint64_t, Entry& entry, int) {
    std::uint64_t word = entry.load(std::memory_order_relaxed);
    while ((word & bits::kPinned) == 0 && !entry.compare_exchange_weak(word, word & kKept)) {
    }
  });
}

void ForgetUnmapped(std::uint64_t begin, std::uint64_t size) {
  if (begin >= kAddressesEnd || size > kAddressesEnd - begin) return;
  const std::uint64_t end = begin + size;
  for (std::uint64_t at = begin & ~(kPage - 1); at < end;) {
    Area area{.begin = end, .end = end};
    vm.maps.FindFrom(at, &area);
    const std::uint64_t gap_end = std::min(area.begin, end);
    if (gap_end > at) Forget(at, gap_end - at);
    at = std::max(area.end, gap_end);
  }
}

namespace {

// A page of the upper half, or a pinned one of the lower.
bool Pin(std::uint64_t where, std::uint64_t memory, std::uint64_t flags) {
  if (!AddGranule(memory)) return false;
  Entry* const entry = MakeEntry(vm.root, where, 1);
  if (entry == nullptr) return false;
  entry->store(PhysicalOf(memory) | bits::kPresent | bits::kPinned | bits::kAccessed |
               bits::kDirty | flags);
  return true;
}

std::uint64_t Address(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

void WriteIdt() {
  auto* const idt = reinterpret_cast<x86::GateDescriptor*>(vm.shared_page);
  const std::uint64_t vectors =
      DUNE_ALIAS_BASE + (Address(dune_ring0_vectors) - Address(dune_ring0_text));
  for (unsigned vector = 0; vector < 32; ++vector) {
    const auto name = static_cast<x86::Vector>(vector);
    const bool own_stack = name == x86::Vector::kDebug || name == x86::Vector::kNonMaskable ||
                           name == x86::Vector::kDoubleFault || name == x86::Vector::kMachineCheck;
    const bool for_user = name == x86::Vector::kBreakpoint || name == x86::Vector::kOverflow;
    idt[vector] = x86::GateDescriptor::Interrupt(vectors + vector * 16, DUNE_RING0_CODE,
                                                 own_stack ? 1 : 2, for_user ? 3 : 0);
  }
}

}  // namespace

bool MakeMirror() {
  for (std::uint64_t at = vm.pool; at < vm.pool + vm.pool_bytes; at += kGranuleBytes) {
    if (!AddGranule(at)) return false;
  }
  if (!AddGranule(vm.pool + vm.pool_bytes - kPage)) return false;
  const std::uint64_t root = TakeFrame(FrameFor::kCurrent);
  if (root == 0) return false;
  vm.root = PhysicalOf(root);
  for (std::uint64_t offset = 0; offset < DUNE_ALIAS_SHARED_OFFSET &&
                                 Address(dune_ring0_text) + offset < Address(dune_ring0_text_end);
       offset += kPage) {
    if (!Pin(DUNE_ALIAS_BASE + offset, Address(dune_ring0_text) + offset, 0)) return false;
  }
  WriteIdt();
  vm.shared = reinterpret_cast<SharedState*>(vm.shared_page + DUNE_SHARED_HANDLED);
  return Pin(DUNE_ALIAS_BASE + DUNE_ALIAS_SHARED_OFFSET, Address(vm.shared_page),
             bits::kWritable | bits::kNoExecute);
}

bool ShowBlock(Thread* thread) {
  const std::uint64_t block = Address(thread->block());
  for (std::uint64_t offset = 0; offset < DUNE_ALIAS_BLOCK_BYTES; offset += kPage) {
    if (!Pin(AliasOfBlock(thread->index) + offset, block + offset,
             bits::kWritable | bits::kNoExecute)) {
      return false;
    }
  }
  const std::uint64_t handlers = block + kHandlerStackAt;
  for (std::uint64_t offset = 0; offset < kHandlerStackBytes; offset += kPage) {
    if (!Pin(handlers + offset, handlers + offset, bits::kWritable | bits::kNoExecute)) {
      return false;
    }
  }
  return true;
}

std::uint64_t SyscallEntryOffset() {
  return Address(dune_ring0_syscall) - Address(dune_ring0_text);
}

std::uint64_t DispatchAddress() { return reinterpret_cast<std::uint64_t>(&dune_dispatch_trap); }

}  // namespace dune::ring0
