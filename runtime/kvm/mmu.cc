#include "runtime/kvm/mmu.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "libdune/x86/control.h"
#include "runtime/kvm/layout.h"
#include "runtime/memory/stop_pool.h"

namespace dunebox::kvm {

using dune::x86::PageTableEntry;
namespace page_fault = dune::x86::page_fault;

namespace {

constexpr std::uint64_t kSpan = dune::x86::EntrySpan(2);

PageTableEntry RightsOf(memory::Protection protection) {
  return PageTableEntry{}
      .set_user(true)
      .set_writable(protection.write)
      .set_no_execute(!protection.execute);
}

bool Allows(memory::Protection protection, std::uint64_t error_code) {
  if ((error_code & page_fault::kWrite) != 0) return protection.write;
  if ((error_code & page_fault::kInstruction) != 0) return protection.execute;
  return protection.any();  // write and execute imply read on x86
}

}  // namespace

Mmu::Mmu(Vm& vm, memory::AddressSpace& space, Paging paging)
    : vm_(vm),
      space_(space),
      tables_(vm),
      flushes_(pool(), vm.arena(layout::kDoorbellOffset)),
      paging_(paging) {
  vm.set_granule_shift(paging == Paging::kShadow ? layout::kShadowGranuleShift
                                                 : layout::kTwoDimensionalGranuleShift);
  vm.set_window_base(space.memory().window().base);
}

absl::Status Mmu::Initialize() { return tables_.Initialize(); }

absl::Status Mmu::FillOnce(const GuestRange& range, PageTableEntry rights, bool may_be_large) {
  if (alias_.Contains(range.start)) {
    return tables_.MapSpan(range, layout::kAliasPhys + (range.start - alias_.start),
                           rights.set_writable(false).set_no_execute(true));
  }
  absl::StatusOr<GuestPhys> frame = vm_.PhysicalFor(range.start);
  if (!frame.ok()) return frame.status();
  if (may_be_large && tables_.MapLargeSpan(range.start, *frame, rights)) return absl::OkStatus();
  return tables_.MapSpan(range, *frame, rights);
}

std::size_t Mmu::LargeLeaves() {
  std::lock_guard lock(mutex_);
  return tables_.large_spans();
}

// The order is what stops the other vCPUs. With the user half of the root gone and everything
// dropped that KVM and the processors remember, which removing a memslot does before it returns,
// no vCPU can execute one more instruction of ring 3: fetching it faults, the fault leads to
// Resolve, and that waits for our lock. Only then is memory of tables reused.
// A fault that KVM was at work on with what it had read before finds its memslot still there: KVM
// waits for such a one before a slot is really gone.
// Ring 0 loses its view of the pool's tables for good: what it remembers of where they were must never be
// wrong.
absl::Status Mmu::StartOver() {
  ++times_started_over_;
  if (!memory::StopPool(pool())) {
    return absl::InternalError("ring 0 does not let go of the memory pool");
  }
  offers_pool_ = false;
  tables_.Detach();
  if (absl::Status status = vm_.DropGranules(); !status.ok()) return status;
  tables_.Reuse();
  return absl::OkStatus();
}

// Who writes to a private mapping gets a page of its own each time, which nobody has yet.
bool Mmu::FillsAround(const memory::Vma& vma, std::uint64_t error_code) const {
  const bool copies =
      (error_code & page_fault::kWrite) != 0 && vma.sharing == memory::Sharing::kPrivate;
  return vm_.can_pre_fault() && paging_ == Paging::kTwoDimensional && vma.file_backed && !copies &&
         !alias_.Overlaps(vma.range);
}

Resolution Mmu::Fill(const memory::Vma& vma, GuestVirt address, std::uint64_t error_code,
                     Ahead* ahead) {
  const GuestVirt span_start{address.value & ~(kSpan - 1)};
  GuestRange part{std::max(span_start, vma.range.start),
                  std::min(span_start + kSpan, vma.range.end)};
  std::lock_guard lock(mutex_);
  GuestRange mapped;
  if (ahead != nullptr && FillsAround(vma, error_code)) {
    const TableState table = tables_.HasPages(part) ? TableState::kInUse : TableState::kNew;
    const FaultAround::Window window =
        around_.Choose(part, GuestVirt{PageDown(address.value)}, table);
    part = window.filled;
    mapped = window.mapped;
  }
  const PageTableEntry rights = RightsOf(vma.protection);
  const std::uint64_t written = tables_.entries_written();
  // Of a file each page is taken away by itself when there is nothing behind it (DropUnbacked).
  const bool may_be_large =
      paging_ == Paging::kTwoDimensional && part.size() == kSpan && !vma.file_backed;
  absl::Status filled = FillOnce(part, rights, may_be_large);
  if (absl::IsResourceExhausted(filled) && StartOver().ok()) {
    filled = FillOnce(part, rights, may_be_large);
  }
  if (!filled.ok()) return Resolution::kFailed;
  if (!mapped.empty()) {
    // The granule has its slot since it was filled in.
    const absl::StatusOr<GuestPhys> first = vm_.PhysicalFor(mapped.start);
    if (first.ok()) *ahead = {mapped, *first};
  }
  return tables_.entries_written() == written ? Resolution::kWasMapped : Resolution::kMapped;
}

abi::MemoryPool& Mmu::pool() const {
  return *reinterpret_cast<abi::MemoryPool*>(vm_.arena(layout::kPoolOffset));
}

abi::MemoryPool* Mmu::Pool() {
  std::lock_guard lock(mutex_);
  return offers_pool_ ? &pool() : nullptr;
}

absl::Status Mmu::ShowTables(const GuestRange& range, std::uint64_t first, bool& is_shown) {
  for (std::uint64_t table = 0; !is_shown && table < range.size() / kSpan; ++table) {
    absl::Status shown = tables_.ShowLeafTable(
        range.start + table * kSpan,
        layout::ArenaVirt(layout::kPoolTablesOffset + (first + table) * kPageSize));
    if (!shown.ok()) return shown;
  }
  is_shown = true;
  return absl::OkStatus();
}

absl::Status Mmu::OpenPool(const memory::PoolRanges& ranges, std::uint64_t opening) {
  std::lock_guard lock(mutex_);
  if (!offers_pool_) return absl::FailedPreconditionError("no pool here any more");
  absl::StatusOr<GuestPhys> frame = vm_.PhysicalFor(ranges.mappings.start);
  if (!frame.ok()) return frame.status();
  absl::Status shown = ShowTables(ranges.mappings, 0, pool_is_shown_);
  if (!shown.ok()) return shown;
  pool().heap_pages = 0;
  if (!ranges.heap.empty()) {
    absl::StatusOr<GuestPhys> heap_frame = vm_.PhysicalFor(ranges.heap.start);
    if (!heap_frame.ok()) return heap_frame.status();
    shown = ShowTables(ranges.heap, abi::MemoryPool::kPages * kPageSize / kSpan, heap_is_shown_);
    if (!shown.ok()) return shown;
    pool().heap_start = ranges.heap.start.value;
    pool().heap_first_frame = heap_frame->value;
    pool().heap_lowest = ranges.heap_lowest.value;
    pool().heap_end = ranges.heap_end.value;
    pool().heap_pages = abi::MemoryPool::kHeapPages;
  }
  pool().start = ranges.mappings.start.value;
  pool().first_frame = frame->value;
  pool().free_end = abi::MemoryPool::kPages;
  pool().answered = 0;
  pool().opening = opening;
  // The last word: from now on it is ring 0's.
  __atomic_store_n(&pool().pages, abi::MemoryPool::kPages, __ATOMIC_SEQ_CST);
  return absl::OkStatus();
}

Resolution Mmu::Settle(const memory::Vma* vma, GuestVirt address, std::uint64_t error_code,
                       bool backed, Ahead* ahead) {
  if (vma == nullptr) return Resolution::kNoMapping;
  if (!Allows(vma->protection, error_code)) return Resolution::kForbidden;
  if (!backed) return Resolution::kNothingBehind;
  return Fill(*vma, address, error_code, ahead);
}

Resolution Mmu::Resolve(std::uint64_t address, std::uint64_t error_code, BackingCheck check,
                        Ahead* ahead) {
  // Probed before the lock is taken: touching guest memory may block. What changes meanwhile
  // shows as another fault.
  const bool backed =
      check == BackingCheck::kAssume || space_.memory().Probe(address) ||
      alias_.Contains(GuestVirt{address});
  for (;;) {
    const auto resolution = space_.WithVma(
        GuestVirt{address}, [&](const memory::Vma* vma) -> std::optional<Resolution> {
          // While the map is locked the pool is neither opened nor closed. Of the open one only what ring 0 may
          // not answer comes here: what the program may not do, an access of ring 0's own now and then, and
          // those that waited for another vCPU too long.
          const auto page = space_.FindInOpenPool(GuestVirt{address});
          if (!page) return Settle(vma, GuestVirt{address}, error_code, backed, ahead);
          if (!page->used) return Resolution::kNoMapping;
          if (!Allows(page->protection, error_code)) return Resolution::kForbidden;
          return std::nullopt;
        });
    if (resolution) return *resolution;
    space_.ClosePool();
  }
}

std::size_t Mmu::DropUnbacked() {
  std::vector<GuestRange> candidates;
  space_.ForEachVma([&](const memory::Vma& vma) {
    if (vma.file_backed && vma.protection.any()) candidates.push_back(vma.range);
    return true;
  });
  std::vector<GuestVirt> present;
  {
    std::lock_guard lock(mutex_);
    for (const GuestRange& range : candidates) {
      tables_.ForEachPresent(range, [&](GuestVirt page) { present.push_back(page); });
    }
  }
  std::size_t dropped = 0;
  for (const GuestVirt page : present) {
    if (space_.memory().Probe(page.value)) continue;
    std::lock_guard lock(mutex_);
    tables_.Clear({page, page + kPageSize});
    ++dropped;
  }
  return dropped;
}

absl::Status Mmu::Alias(const GuestRange& at, const void* host) {
  std::lock_guard lock(mutex_);
  absl::Status status = vm_.AliasHostPages(host, at.size());
  if (status.ok()) alias_ = at;
  return status;
}

absl::Status Mmu::ShowClock(std::span<const std::byte> code, std::uint64_t entry) {
  if (alias_.size() > layout::kMostClockData || code.size() > layout::kMostClockCode) {
    return absl::OkStatus();
  }
  std::lock_guard lock(mutex_);
  std::ranges::copy(code, vm_.arena(layout::kClockCodeOffset));
  for (std::uint64_t at = 0; at < code.size(); at += kPageSize) {
    const std::uint64_t offset = layout::kClockCodeOffset + at;
    absl::Status status = tables_.MapSupervisor(layout::ArenaVirt(offset), GuestPhys{offset},
                                                /*writable=*/false, /*execute=*/true);
    if (!status.ok()) return status;
  }
  for (std::uint64_t at = 0; at < alias_.size(); at += kPageSize) {
    const std::uint64_t below = layout::kClockCodeOffset - alias_.size() + at;
    absl::Status status = tables_.MapSupervisor(layout::ArenaVirt(below), layout::kAliasPhys + at,
                                                /*writable=*/false, /*execute=*/false);
    if (!status.ok()) return status;
  }
  clock_entry_ = layout::ArenaVirt(layout::kClockCodeOffset + entry);
  return absl::OkStatus();
}

void Mmu::Forget(const GuestRange& range) {
  std::lock_guard lock(mutex_);
  tables_.Clear(range);
}

}  // namespace dunebox::kvm
