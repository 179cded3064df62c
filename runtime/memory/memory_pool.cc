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

// A mapping's state when the pool is opened: ring 0 takes over what it could have made.
std::uint8_t StateOf(const Vma& vma) {
  const Protection& protection = vma.protection;
  const bool plain = vma.sharing == Sharing::kPrivate && !vma.file_backed && !vma.sealed &&
                     vma.backing == nullptr && !protection.execute &&
                     protection.read >= protection.write;
  if (!plain) return MemoryPool::kHost;
  return static_cast<std::uint8_t>(MemoryPool::kUsed | MemoryPool::kOld |
                                   (protection.read ? MemoryPool::kRead : 0) |
                                   (protection.write ? MemoryPool::kWrite : 0));
}

using PoolStates = std::array<std::uint8_t, MemoryPool::kPages>;

// Calls back with each run of pages of one state.
template <typename Visit>
void ForEachRun(const PoolStates& states, const GuestRange& pool, Visit visit) {
  for (std::uint64_t first = 0; first < MemoryPool::kPages;) {
    const std::uint8_t state = states[first];
    std::uint64_t end = first + 1;
    while (end < MemoryPool::kPages && states[end] == state) ++end;
    visit(GuestRange{pool.start + first * kPageSize, pool.start + end * kPageSize}, state);
    first = end;
  }
}

// For each mapping with a part in the pool, the state that `state_of` gives it; 0: none.
template <typename StateOfVma>
void EnterMappings(const VmaMap& map, const GuestRange& pool, PoolStates& states,
                   StateOfVma state_of) {
  map.ForEachIn(pool, [&](const Vma& vma) {
    const std::uint64_t first = (std::max(vma.range.start, pool.start) - pool.start) / kPageSize;
    const std::uint64_t end = (std::min(vma.range.end, pool.end) - pool.start) / kPageSize;
    const auto state = static_cast<std::uint8_t>(state_of(vma));
    if (state != 0) std::fill(states.begin() + first, states.begin() + end, state);
    return true;
  });
}

}  // namespace

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

bool AddressSpace::OpenPool() {
  std::unique_lock lock(mutex_);
  ChoosePoolLocked();
  if (HasOpenPool() || pool_is_retired_ || pool_range_.empty()) return false;
  pool_ = observer_ != nullptr ? observer_->Pool() : nullptr;
  // All of it may become data without another question.
  const Vma whole{.range = pool_range_, .protection = {.read = true, .write = true}};
  if (pool_ == nullptr || !Fits(whole, pool_range_)) return false;
  // Said first and looked then, as BeginUse does the other way round: one of the two sees the other.
  pool_is_open_.store(true);
  if (users_.load() != 0) {
    pool_is_open_.store(false);
    return false;
  }

  PoolStates states{};
  EnterMappings(map_, pool_range_, states, StateOf);
  std::ranges::copy(states, pool_->state);
  const std::uint64_t opening = pool_opening_.fetch_add(1) + 1;
  if (BackPoolLocked(states) && observer_->OpenPool(pool_range_, opening).ok()) return true;
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
  ForEachRun(states, pool_range_, [&](const GuestRange& run, std::uint8_t state) {
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
  EnterMappings(map_, pool_range_, states,
                [](const Vma& vma) { return StateOf(vma) & MemoryPool::kHost; });
  ForEachRun(states, pool_range_, [&](const GuestRange& run, std::uint8_t state) {
    if ((state & MemoryPool::kHost) == 0) TakeBackRunLocked(run, state);
  });
}

void AddressSpace::TakeBackRunLocked(const GuestRange& run, std::uint8_t state) {
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
    map_.Replace({.range = run, .protection = protection});
    // Whatever its rights are now, it may have been filled.
    CountIn({.range = run, .protection = {.read = true, .write = true}});
  }
  // Else the host would have memory where the map says that there is none, or other rights.
  DUNEBOX_CHECK(done, "the kernel does not take back the memory pool");
}

std::optional<PoolPage> AddressSpace::FindInOpenPool(GuestVirt address) const {
  if (!HasOpenPool() || !pool_range_.Contains(address)) return std::nullopt;
  const std::uint8_t state = pool_->state[(address - pool_range_.start) / kPageSize];
  if ((state & MemoryPool::kHost) != 0) return std::nullopt;
  return PoolPage{.used = (state & MemoryPool::kUsed) != 0, .protection = ProtectionOf(state)};
}

bool AddressSpace::PoolHolds(const GuestRange& range) const {
  std::shared_lock lock(mutex_);
  if (!HasOpenPool() || range.empty()) return false;
  const GuestVirt last{std::min(range.end, pool_range_.end).value - 1};
  for (GuestVirt at{PageDown(std::max(range.start, pool_range_.start).value)}; at <= last;
       at = at + kPageSize) {
    const std::uint8_t state = pool_->state[(at - pool_range_.start) / kPageSize];
    constexpr int kOfInterest = MemoryPool::kUsed | MemoryPool::kStale | MemoryPool::kHost | kRights;
    if ((state & kOfInterest) != (MemoryPool::kUsed | kRights)) return false;
  }
  return true;
}

void AddressSpace::KeepFromPool(const GuestRange& range) {
  std::unique_lock lock(mutex_);
  KeepFromPoolLocked(range);
}

void AddressSpace::KeepFromPoolLocked(const GuestRange& range) {
  if (!pool_range_.Overlaps(range)) return;
  DUNEBOX_CHECK(!HasOpenPool(), "a call changes memory of the open pool");
  pool_is_retired_ = true;
}

}  // namespace dunebox::memory
