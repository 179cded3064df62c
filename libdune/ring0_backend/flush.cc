#include "libdune/ring0_backend/flush.h"

#include "libdune/ring0_backend/entries.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/x86/control.h"

namespace dune::ring0 {

bool IsInRing0() {
  std::uint64_t selector = 0;
  asm volatile("mov %%cs, %0" : "=r"(selector));
  return (selector & 3) == 0;
}

VcpuState& State() {
  std::uint32_t low = 0, high = 0;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(x86::msr::kKernelGsBase));
  return *reinterpret_cast<VcpuState*>((std::uint64_t{high} << 32 | low) + DUNE_BLOCK_STATE_AT);
}

TableTags& Tags() {
  return *reinterpret_cast<TableTags*>(State().self + DUNE_BLOCK_TAGS_AT);
}

std::uint64_t UsedTable() {
  std::uint64_t word = 0;
  asm volatile("mov %%cr3, %0" : "=r"(word));
  return TableTags::RootOf(word);
}

void UseTable(std::uint64_t root) {
  VcpuState& state = State();
  TableTags& tags = Tags();
  if (!vm.pcid) {
    state.process_cr3 = tags.process_load = root;
    asm volatile("mov %0, %%cr3" : : "r"(root) : "memory");
    return;
  }
  const TableTags::Use use = tags.Prepare(root, vm.retired_tables.load());
  state.process_cr3 = root;
  tags.process_load = use.word | TableTags::kKeep;
  const std::uint64_t load = tags.MayKeep(use) ? use.word | TableTags::kKeep : use.word;
  asm volatile("mov %0, %%cr3" : : "r"(load) : "memory");
  // A handler that came before the load has changed a table.
  if (load != use.word && !tags.MayKeep(use)) {
    asm volatile("mov %0, %%cr3" : : "r"(use.word) : "memory");
  }
  tags.Loaded(use);
}

TableTags::Use PrepareTable(std::uint64_t root) {
  if (!vm.pcid) return {root, 0};
  TableTags& tags = Tags();
  const TableTags::Use use = tags.Prepare(root, vm.retired_tables.load());
  tags.user_keep = tags.MayKeep(use) ? TableTags::kKeep : 0;
  return use;
}

void TableWasUsed(const TableTags::Use& use) {
  if (!vm.pcid) return;
  Tags().user_keep = 0;
  Tags().Loaded(use);
}

namespace {

void ReloadTranslations() {
  std::uint64_t root = 0;
  asm volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(root) : : "memory");
}

}  // namespace

void FlushRange(Range range) {
  constexpr std::size_t kMostSingly = 32 * kPageSize;
  if (range.size <= kMostSingly) {
    for (std::uintptr_t page = range.begin; page < range.end(); page += kPageSize) {
      asm volatile("invlpg (%0)" : : "r"(page) : "memory");
    }
  } else {
    ReloadTranslations();
  }
  if (vm.pcid) Tags().OnChange(UsedTable());
  // Those that are out forget when they begin (dune_begin_ring0), which is after they are counted.
  if (vm.entered.load() <= 1) return;
  *reinterpret_cast<volatile std::byte*>(vm.flush_page) = std::byte{1};
  dune_hypercall(static_cast<std::uint64_t>(Hypercall::kFlushAll), 0, 0);
}

void ExpectCopies() {
  std::atomic_ref<std::uint64_t>(vm.shared->handled).fetch_or(1u << DUNE_VECTOR_PAGE_FAULT);
}

namespace {

// A large page becomes a table of 4 KiB pages with the same memory and rights, so that one of them can be copied. False:
// no frame.
bool Split(Entry& entry) {
  std::uint64_t word = entry.load(std::memory_order_acquire);
  if ((word & bits::kLarge) == 0) return true;  // another thread was faster
  const std::uint64_t frame = TakeFrame(FrameFor::kOthers);
  if (frame == 0) return false;
  auto* const table = reinterpret_cast<Entry*>(frame);
  const std::uint64_t table_word =
      PhysicalOf(frame) | bits::kPresent | bits::kWritable | bits::kUser | bits::kAccessed;
  do {
    for (unsigned index = 0; index < x86::kEntriesPerTable; ++index) {
      table[index].store((word & ~bits::kLarge) + index * kPage, std::memory_order_relaxed);
    }
    // The processor may mark the page meanwhile, or another thread split it.
  } while (!entry.compare_exchange_strong(word, table_word) && (word & bits::kLarge) != 0);
  if ((word & bits::kLarge) == 0) GiveFrame(frame);
  return true;
}

// What leads to `level`'s table for another page table too leads to a copy of it. The leaves that own their frames are
// then two. `origin`: kOfProcess of a table of Current()'s, else 0.
void CopyTable(std::uint64_t word, int level, std::uint64_t frame, std::uint64_t origin) {
  const Entry* const from = TableAt(word);
  auto* const to = reinterpret_cast<Entry*>(frame);
  ForEachUsed(from, [&](unsigned index, const Entry& entry) {
    const std::uint64_t below = entry.load(std::memory_order_relaxed);
    const bool leads = level > 1 && LeadsToTable(below);
    if (!leads && (below & bits::kOwned) != 0) KeepFrame(below & bits::kFrame);
    to[index].store(leads ? below | bits::kForeign : ForOthers(below) | origin, std::memory_order_relaxed);
  });
}

// Whether it leads to the very table of `level` that Current() has there.
bool IsOfProcess(std::uint64_t word, std::uint64_t address, int level) {
  const Entry* const entry = FindEntry(vm.root, address, level);
  return entry != nullptr && TableAt(word) == entry - x86::TableIndex(address, level);
}

// A copy that nobody has seen.
void DropTable(std::uint64_t frame, int level) {
  for (unsigned index = 0; index < x86::kEntriesPerTable; ++index) {
    const std::uint64_t below = reinterpret_cast<Entry*>(frame)[index].load(std::memory_order_relaxed);
    const bool leads = level > 1 && LeadsToTable(below);
    if (!leads && (below & bits::kOwned) != 0) DropFrame(below & bits::kFrame);
  }
  GiveFrame(frame);
}

}  // namespace

Entry* OwnEntry(std::uint64_t root, std::uint64_t address, int level) {
  Entry* table = TableAt(root);
  std::uint64_t origin = 0;  // of a table that does not lead anywhere yet: that of the one above it
  for (int at = 4; at > level; --at) {
    Entry& entry = table[x86::TableIndex(address, at)];
    std::uint64_t word = entry.load(std::memory_order_acquire);
    if ((word & bits::kLarge) != 0) return nullptr;
    if (!LeadsToTable(word) || (word & bits::kForeign) != 0) {
      const std::uint64_t frame = TakeFrame(FrameFor::kOthers);
      if (frame == 0) return nullptr;
      if (word == bits::kUnmapped) origin = 0;  // the rest of a large page
      if (LeadsToTable(word)) {
        origin = IsOfProcess(word, address, at - 1) ? bits::kOfProcess : 0;
        CopyTable(word, at - 1, frame, origin);
      }
      const std::uint64_t fresh = PhysicalOf(frame) | bits::kPresent | bits::kWritable | bits::kUser | origin;
      // The processor may mark the entry meanwhile, or another thread be faster.
      std::uint64_t seen = word;
      while (!entry.compare_exchange_strong(seen, fresh, std::memory_order_acq_rel)) {
        if (LeadsToTable(seen) && (seen & bits::kForeign) == 0) break;
      }
      if (seen != word && LeadsToTable(seen) && (seen & bits::kForeign) == 0) {
        DropTable(frame, at - 1);
        word = seen;
      } else {
        word = fresh;
      }
    }
    origin = word & bits::kOfProcess;
    table = TableAt(word);
  }
  return &table[x86::TableIndex(address, level)];
}

bool HasForeignTable(std::uint64_t root, std::uint64_t address, int level) {
  const Entry* table = TableAt(root);
  for (int at = 4; at > level; --at) {
    const std::uint64_t word = table[x86::TableIndex(address, at)].load(std::memory_order_relaxed);
    if (!LeadsToTable(word)) return false;
    if ((word & bits::kForeign) != 0) return true;
    table = TableAt(word);
  }
  return false;
}

bool ResolveCopyOnWrite(std::uint64_t root, std::uint64_t address, bool* no_frame) {
  int level = 0;
  Entry* entry = FindLeaf(root, address, &level);
  if (entry != nullptr && (entry->load() & bits::kCopyOnWrite) != 0 && HasForeignTable(root, address)) {
    entry = OwnEntry(root, address, level);
    if (entry == nullptr) {
      *no_frame = true;
      return false;
    }
    // The processor may remember the way through the other's tables. [intel/vol3 §4.10.3]
    FlushRange({address & ~(kPage - 1), kPage});
  }
  if (entry != nullptr && level == 2 && (entry->load() & bits::kCopyOnWrite) != 0) {
    if (!Split(*entry)) {
      *no_frame = true;
      return false;
    }
    constexpr std::uint64_t kSpan = x86::EntrySpan(2);
    FlushRange({address & ~(kSpan - 1), kSpan});
    entry = FindLeaf(root, address, &level);
  }
  if (entry == nullptr || level != 1) return false;
  std::uint64_t word = entry->load(std::memory_order_acquire);
  const std::uint64_t page = address & ~(kPage - 1);
  if ((word & bits::kCopyOnWrite) == 0) {
    // Another thread was faster; the processor may not have looked yet.
    return (word & bits::kPresent) != 0 && (word & bits::kWritable) != 0;
  }
  const bool owned = (word & bits::kOwned) != 0;
  const auto is_only_one = [&] { return owned && ReferencesOf(word & bits::kFrame) == 1; };
  std::uint64_t fresh = (word & ~(bits::kCopyOnWrite | bits::kPrivate | bits::kCloned)) | bits::kWritable;
  if (is_only_one()) {
    // Whoever clones the table meanwhile refers to the frame first and then says so in the entry, which is then another one
    // than here. So what was said before is taken back before the last look at the count.
    if ((word & bits::kCloned) != 0) {
      if (!entry->compare_exchange_strong(word, word & ~bits::kCloned)) return true;
      word &= ~bits::kCloned;
      if (!is_only_one()) return true;
    }
    entry->compare_exchange_strong(word, fresh);
    FlushRange({page, kPage});
    return true;
  }
  const std::uint64_t frame = TakeFrame(FrameFor::kOthers);
  if (frame == 0) {
    *no_frame = true;
    return false;
  }
  CopyPage(reinterpret_cast<void*>(frame), reinterpret_cast<const void*>(AddressOf(word & bits::kFrame)));
  fresh = (fresh & ~bits::kFrame) | PhysicalOf(frame) | bits::kOwned;
  KeepFrame(PhysicalOf(frame));
  if (!entry->compare_exchange_strong(word, fresh)) {
    DropFrame(PhysicalOf(frame));
    return true;
  }
  FlushRange({page, kPage});
  if (owned) DropFrame(word & bits::kFrame);
  return true;
}

Leaf LeafToWrite(std::uint64_t root, std::uint64_t address, bool* no_frame) {
  for (;;) {
    const Leaf leaf = LeafAt(root, address);
    if (leaf.entry == nullptr || (leaf.word & bits::kCopyOnWrite) == 0) return leaf;
    ResolveCopyOnWrite(root, address, no_frame);
    if (*no_frame) return leaf;
  }
}

}  // namespace dune::ring0
