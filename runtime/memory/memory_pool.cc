// The part of the address space that the guest's ring 0 hands out by itself: lent, and taken back.
// What it may do there meanwhile is in hostcalls/abi/memory_pool.h.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "hostcalls/check.h"
#include "runtime/memory/address_space.h"
#include "runtime/memory/stop_pool.h"

namespace dunebox::memory {
namespace {

using abi::MemoryPool;

constexpr std::uint64_t kPoolBytes = MemoryPool::kPages * kPageSize;
constexpr std::uint8_t kRights = MemoryPool::kRead | MemoryPool::kWrite;

// Behind the guest while the pool is open; the guest's page tables say what it may do.
constexpr int kOpenProt = PROT_READ | PROT_WRITE;

Protection ProtectionOf(std::uint8_t state) {
  return {.read = (state & MemoryPool::kRead) != 0,
          .write = (state & MemoryPool::kWrite) != 0,
          .execute = false};
}

constexpr std::uint64_t kHeapBytes = MemoryPool::kHeapPages * kPageSize;
// What a leaf table is for, and what engines have in one piece at least.
constexpr std::uint64_t kTableSpan = std::uint64_t{2} << 20;
constexpr std::uint64_t kContiguous = std::uint64_t{1} << 30;
// The end of the heap moves so often before ring 0 is given it: most programs' does at the start only.
constexpr unsigned kHeapMoves = 4;
constexpr const char* kHeapName = "[heap]";

}  // namespace

std::array<AddressSpace::PoolPart, 2> AddressSpace::PoolPartsLocked() const {
  return {PoolPart{pool_range_, 0}, PoolPart{lent_heap_, MemoryPool::kPages}};
}

// A mapping's state when the pool is opened: ring 0 takes over what it could have made in that part.
std::uint8_t AddressSpace::StateOfLocked(const Vma& vma, const PoolPart& part) {
  const Protection& protection = vma.protection;
  const bool is_heap = vma.backing != nullptr && vma.backing->name == kHeapName;
  const bool plain = vma.sharing == Sharing::kPrivate && !vma.file_backed && !vma.sealed &&
                     (vma.backing == nullptr || is_heap) && is_heap == part.is_heap() &&
                     !protection.execute && protection.read >= protection.write;
  if (!plain) return MemoryPool::kHost;
  return static_cast<std::uint8_t>(MemoryPool::kUsed | MemoryPool::kOld |
                                   (protection.read ? MemoryPool::kRead : 0) |
                                   (protection.write ? MemoryPool::kWrite : 0));
}

// Calls back with each run of pages of one state.
template <typename Visit>
void AddressSpace::ForEachRunLocked(const PoolStates& states, Visit visit) const {
  for (const PoolPart& part : PoolPartsLocked()) {
    const std::uint64_t pages = part.range.size() / kPageSize;
    for (std::uint64_t first = 0; first < pages;) {
      const std::uint8_t state = states[part.first + first];
      std::uint64_t end = first + 1;
      while (end < pages && states[part.first + end] == state) ++end;
      visit(part,
            GuestRange{part.range.start + first * kPageSize, part.range.start + end * kPageSize},
            state);
      first = end;
    }
  }
}

// For each mapping with a part in the pool, the state that `state_of` gives it; 0: none.
template <typename StateOfVma>
void AddressSpace::EnterMappingsLocked(PoolStates& states, StateOfVma state_of) const {
  for (const PoolPart& part : PoolPartsLocked()) {
    const GuestRange& range = part.range;
    map_.ForEachIn(range, [&](const Vma& vma) {
      const std::uint64_t first = (std::max(vma.range.start, range.start) - range.start) / kPageSize;
      const std::uint64_t end = (std::min(vma.range.end, range.end) - range.start) / kPageSize;
      const auto state = static_cast<std::uint8_t>(state_of(vma, part));
      if (state == 0) return true;
      std::fill(states.begin() + part.first + first, states.begin() + part.first + end, state);
      return true;
    });
  }
}

// Aligned, so that its memory is contiguous for the guest and its tables are whole.
void AddressSpace::ChoosePoolLocked() {
  if (!pool_range_.empty() || pool_is_retired_) return;
  if (observer_ == nullptr || observer_->Pool() == nullptr) return;
  const GuestRange area{layout_.mmap_bottom, layout_.mmap_top};
  if (const auto start = map_.FindGapTopDown(area, kPoolBytes, kPoolBytes)) {
    pool_range_ = {*start, *start + kPoolBytes};
    pool_is_placed_.store(true, std::memory_order_release);
  } else {
    pool_is_retired_ = true;
  }
}

void AddressSpace::PlacePool() {
  if (PoolsPlace()) return;
  std::unique_lock lock(mutex_);
  ChoosePoolLocked();
}

// The window stays where it was when brk was seen to be called often: with room on both sides, since the end that is
// seen then may be the highest for long.
void AddressSpace::ChooseHeapLocked() {
  if (!heap_window_.empty() || heap_moves_ < kHeapMoves) return;
  const std::uint64_t below = std::min(heap_end_ - heap_start_, kHeapBytes / 2);
  GuestVirt start{(heap_end_.value - below) & ~(kTableSpan - 1)};
  const std::uint64_t behind = (start.value + kHeapBytes) & ~(kContiguous - 1);
  if (behind > start.value) start = GuestVirt{behind - kHeapBytes};
  const GuestRange window{start, start + kHeapBytes};
  if (memory_.Contains(window) && !window.Overlaps(pool_range_)) heap_window_ = window;
}

bool AddressSpace::OpenPool(PoolsHeap heap) {
  std::unique_lock lock(mutex_);
  ChoosePoolLocked();
  if (HasOpenPool() || pool_is_retired_ || pool_range_.empty()) return false;
  pool_ = observer_ != nullptr ? observer_->Pool() : nullptr;
  // All of it may become data without another question.
  const Vma whole{.range = pool_range_, .protection = {.read = true, .write = true}};
  if (pool_ == nullptr || !Fits(whole, pool_range_)) return false;
  ChooseHeapLocked();
  const Vma whole_heap{.range = heap_window_, .protection = whole.protection};
  const bool takes_heap = heap == PoolsHeap::kYes && !heap_window_.empty() &&
                          !counts_data_ && Fits(whole_heap, heap_window_);
  // Said first and looked then, as BeginUse does the other way round: one of the two sees the other.
  pool_is_open_.store(true);
  if (users_.load() != 0) {
    pool_is_open_.store(false);
    return false;
  }

  lent_heap_ = takes_heap ? heap_window_ : GuestRange{};
  PoolStates states{};
  EnterMappingsLocked(states, StateOfLocked);
  std::ranges::copy(states, pool_->state);
  const std::uint64_t opening = pool_opening_.fetch_add(1) + 1;
  const PoolRanges ranges{.mappings = pool_range_,
                          .heap = lent_heap_,
                          .heap_lowest = heap_start_,
                          .heap_end = heap_end_};
  // As long as it is not ring 0's it is what it was.
  pool_->heap_end = heap_end_.value;
  if (BackPoolLocked(states) && observer_->OpenPool(ranges, opening).ok()) return true;
  pool_is_retired_ = true;
  pool_is_open_.store(false);
  TakePoolBackLocked();
  return false;
}

std::uint64_t AddressSpace::BeginUse() {
  users_.fetch_add(1);
  return ClosePool();
}

void AddressSpace::EndUse() { users_.fetch_sub(1); }

bool AddressSpace::BackPoolLocked(const PoolStates& states) {
  bool all = true;
  ForEachRunLocked(states, [&](const PoolPart&, const GuestRange& run, std::uint8_t state) {
    void* host = memory_.HostAddress(run.start.value, run.size());
    if ((state & MemoryPool::kHost) != 0 || (state & kRights) == kRights) return;
    if ((state & MemoryPool::kUsed) != 0) {
      all = mprotect(host, run.size(), kOpenProt) == 0 && all;
      return;
    }
    const bool mapped = host_.Map(host, run.size(), kOpenProt,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                                  0) != MAP_FAILED;
    // A page is used here and there: huge ones would take 2 MiB for it.
    if (mapped) madvise(host, run.size(), MADV_NOHUGEPAGE);
    all = mapped && all;
  });
  return all;
}

std::uint64_t AddressSpace::ClosePool() {
  while (HasOpenPool()) {
    // Ring 0's lock is never waited for with ours held: a vCPU may have it that waits for ours.
    const auto [pool, opening] =
        WithMap([&](const VmaMap&) { return std::pair(pool_, pool_opening()); });
    DUNEBOX_CHECK(StopPool(*pool), "ring 0 does not let go of the memory pool");
    std::unique_lock lock(mutex_);
    if (!HasOpenPool()) break;
    // Opened once more meanwhile, perhaps.
    if (opening != pool_opening()) continue;
    pool_is_open_.store(false);
    const std::uint64_t answered = pool_->answered;
    TakePoolBackLocked();
    return answered;
  }
  return 0;
}

// Preconditions: ring 0 does nothing there.
void AddressSpace::TakePoolBackLocked() {
  // What is the host's own is known from the map, which has not changed; ring 0's word is not taken for it.
  PoolStates states;
  std::ranges::transform(pool_->state, states.begin(), [](std::uint8_t state) {
    return static_cast<std::uint8_t>(state & (MemoryPool::kUsed | MemoryPool::kStale | kRights));
  });
  EnterMappingsLocked(states, [](const Vma& vma, const PoolPart& part) {
    return StateOfLocked(vma, part) & MemoryPool::kHost;
  });
  ForEachRunLocked(states, [&](const PoolPart& part, const GuestRange& run, std::uint8_t state) {
    if ((state & MemoryPool::kHost) == 0) TakeBackRunLocked(part, run, state);
  });
  const GuestVirt heap_end{pool_->heap_end};
  const bool is_in_it = lent_heap_.Contains(heap_end) || heap_end == lent_heap_.end;
  if (!lent_heap_.empty() && is_in_it && heap_end >= heap_start_) heap_end_ = heap_end;
}

void AddressSpace::TakeBackRunLocked(const PoolPart& part, const GuestRange& run,
                                     std::uint8_t state) {
  void* host = memory_.HostAddress(run.start.value, run.size());
  bool done = true;
  if ((state & MemoryPool::kUsed) == 0) {
    Forget(run);
    done = munmap(host, run.size()) == 0;
    map_.Erase(run);
    CountOut(run);
  } else {
    if ((state & MemoryPool::kStale) != 0) {
      Forget(run);
      done = madvise(host, run.size(), MADV_DONTNEED) == 0;
    }
    const Protection protection = ProtectionOf(state);
    if (protection.ToHostProt() != kOpenProt) {
      done = mprotect(host, run.size(), protection.ToHostProt()) == 0 && done;
    }
    auto backing = part.is_heap() ? Named(kHeapName) : nullptr;
    map_.Replace({.range = run, .protection = protection, .backing = std::move(backing)});
    // Whatever its rights are now, it may have been filled.
    CountIn({.range = run, .protection = {.read = true, .write = true}});
  }
  // Else the host would have memory where the map says that there is none, or other rights.
  DUNEBOX_CHECK(done, "the kernel does not take back the memory pool");
}

std::optional<PoolPage> AddressSpace::FindInOpenPool(GuestVirt address) const {
  const std::uint8_t* const at = PoolStateAt(address);
  if (at == nullptr) return std::nullopt;
  const std::uint8_t state = *at;
  if ((state & MemoryPool::kHost) != 0) return std::nullopt;
  return PoolPage{.used = (state & MemoryPool::kUsed) != 0, .protection = ProtectionOf(state)};
}

// Of the open pool; null: not there.
const std::uint8_t* AddressSpace::PoolStateAt(GuestVirt address) const {
  if (!HasOpenPool()) return nullptr;
  for (const PoolPart& part : PoolPartsLocked()) {
    if (!part.range.Contains(address)) continue;
    return &pool_->state[part.first + (address - part.range.start) / kPageSize];
  }
  return nullptr;
}

bool AddressSpace::PoolHolds(const GuestRange& range) const {
  std::shared_lock lock(mutex_);
  if (!HasOpenPool() || range.empty()) return false;
  for (const PoolPart& part : PoolPartsLocked()) {
    const GuestVirt end = std::min(range.end, part.range.end);
    GuestVirt at{PageDown(std::max(range.start, part.range.start).value)};
    for (; at < end; at = at + kPageSize) {
      constexpr int kOfInterest = MemoryPool::kUsed | MemoryPool::kStale | kRights;
      const std::uint8_t state = *PoolStateAt(at);
      const bool is_hosts = (state & MemoryPool::kHost) != 0;
      if (!is_hosts && (state & kOfInterest) != (MemoryPool::kUsed | kRights)) return false;
    }
  }
  return true;
}

void AddressSpace::KeepFromPool(const GuestRange& range) {
  std::unique_lock lock(mutex_);
  KeepFromPoolLocked(range);
}

void AddressSpace::KeepFromPoolLocked(const GuestRange& range) {
  if (!pool_range_.Overlaps(range) && !heap_window_.Overlaps(range)) return;
  DUNEBOX_CHECK(!HasOpenPool(), "a call changes memory of the open pool");
  pool_is_retired_ = true;
}

}  // namespace dunebox::memory
