// Memory that the guest's ring 0 hands out by itself: what its pages are, and the calls and faults that
// are answered for them. One implementation, freestanding, built for ring 0 and for the tests on the host.
//
// While the pool is open the host has all of its memory readable and writable behind the guest, and
// ring 0 owns `state` and the pool's leaf page tables: each vCPU while it holds PoolLock. Before the host
// does anything about a call that may look there it closes the pool, and makes its own mappings what `state`
// says (runtime/memory/memory_pool.cc).
//
// Answers only the plain cases: anonymous private memory, whole ranges inside the pool, no execution.
// Everything else, errors included, is kAskHost with nothing changed. Wrong states can only give a
// program its own pool's memory: the host believes no address and no frame in here.
//
//   const PoolLock lock(pool, tries);
//   PoolCalls<Translations> calls(pool, translations);   // what page tables mean, see below
//   std::int64_t result = calls.Call(call);
//   if (calls.Fault(page, error_code)) ...               // go on: the access works now
#ifndef DUNEBOX_HOSTCALLS_ABI_MEMORY_POOL_H_
#define DUNEBOX_HOSTCALLS_ABI_MEMORY_POOL_H_

// As the assembler sees them: where MemoryPool is in the arena, a page for who works with it, one without
// meaning (flush_others in entry.S), and, behind SignalActions and PostedWrites, its leaf tables one after the other.
#define DUNE_POOL_OFFSET 0x5000
#define DUNE_SCRATCH_OFFSET 0x7000
#define DUNE_DOORBELL_OFFSET 0x8000
#define DUNE_POOL_TABLES_OFFSET 0xb000
// In that page: an XSAVE area that came with a signal frame, then one of a fresh process.
#define DUNE_SCRATCH_INITIAL 3072
#define DUNE_POOL_START 0
#define DUNE_POOL_PAGES 8
#define DUNE_POOL_HEAP_START 16
#define DUNE_POOL_HEAP_PAGES 24
#define DUNE_POOL_FIRST_HEAP_PAGE 4096

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace dunebox::abi {

// Two ranges, whose pages are numbered through: one for mmap, and one around the end of the heap for brk, which is
// there only in a process of one thread that moves that end often.
struct MemoryPool {
  static constexpr std::uint64_t kPages = 4096;
  static constexpr std::uint64_t kHeapPages = 2048;
  static constexpr std::uint64_t kAllPages = kPages + kHeapPages;
  static constexpr unsigned kTables = kAllPages / 512;

  // Bits of a page's state; 0 is a free page whose memory is all zeros.
  static constexpr std::uint8_t kUsed = 0x01;   // mapped, as the program sees it
  static constexpr std::uint8_t kRead = 0x02;
  static constexpr std::uint8_t kWrite = 0x04;
  static constexpr std::uint8_t kStale = 0x08;  // memory with an earlier use's bytes, and no translation
  static constexpr std::uint8_t kHost = 0x10;   // not the pool's: some other mapping of the host's
  // Used before the pool was opened: free again, it waits for the next opening, so that no mapping of the
  // program's becomes two of the host's, which mremap could not move.
  static constexpr std::uint8_t kOld = 0x20;

  std::uint64_t start;        // guest address of page 0
  std::uint64_t pages;        // kPages while the pool is open, else 0
  std::uint64_t heap_start;   // guest address of page kPages
  std::uint64_t heap_pages;   // kHeapPages if brk is ring 0's too, else 0
  std::uint64_t heap_first_frame;
  std::uint64_t heap_lowest;  // where the heap begins
  std::uint64_t heap_end;     // and ends, as brk tells; ring 0's while the pool is open
  std::uint64_t first_frame;  // guest-physical
  std::uint64_t free_end;     // no page from here on is free
  std::uint64_t answered;     // calls and faults since it was opened
  std::uint64_t opening;      // changes whenever it is opened
  std::uint32_t lock;         // PoolLock's
  std::uint32_t inside;       // vCPUs that may be running; the host counts
  std::uint64_t reductions;   // how often ring 0 has taken rights away that other vCPUs may remember
  std::uint8_t state[kAllPages];
};
static_assert(offsetof(MemoryPool, heap_start) == DUNE_POOL_HEAP_START);
static_assert(offsetof(MemoryPool, heap_pages) == DUNE_POOL_HEAP_PAGES);
static_assert(MemoryPool::kPages == DUNE_POOL_FIRST_HEAP_PAGE);
static_assert(offsetof(MemoryPool, start) == DUNE_POOL_START);
static_assert(offsetof(MemoryPool, pages) == DUNE_POOL_PAGES);
static_assert(DUNE_POOL_OFFSET + sizeof(MemoryPool) <= DUNE_SCRATCH_OFFSET);

// Nobody else works on the pool while one of these is held. Whoever runs in the guest never waits for long:
// the holder may be a vCPU that its host has put aside.
class PoolLock {
 public:
  PoolLock(MemoryPool& pool, unsigned tries) : pool_(pool) {
    for (; tries != 0 && !held_; --tries) {
      held_ = __atomic_exchange_n(&pool_.lock, 1, __ATOMIC_ACQUIRE) == 0;
      if (!held_) __builtin_ia32_pause();
    }
  }
  ~PoolLock() {
    if (held_) __atomic_store_n(&pool_.lock, 0, __ATOMIC_RELEASE);
  }
  PoolLock(const PoolLock&) = delete;
  PoolLock& operator=(const PoolLock&) = delete;
  bool held() const { return held_; }

 private:
  MemoryPool& pool_;
  bool held_ = false;
};

// A call as SYSCALL brings it.
struct PoolCall {
  std::uint64_t number, rdi, rsi, rdx, r10, r8, r9;
};
static_assert(sizeof(PoolCall) == 56);

// `Translations` is what the processor knows of the pool's pages, by their number:
//   void Map(page, writable)   readable, and perhaps writable, from now on
//   void Drop(page)            not accessible any more
//   bool IsMapped(page)
//   void Zero(page)            of a page that is not mapped, and is not afterwards: nobody sees it half done
//   void Finish()              after any number of these: this processor remembers no earlier state
template <typename Translations>
class PoolCalls {
 public:
  static constexpr std::int64_t kAskHost = INT64_MIN;

  PoolCalls(MemoryPool& pool, Translations& translations)
      : pool_(pool), translations_(translations) {}

  // The result, or kAskHost.
  std::int64_t Call(const PoolCall& call) {
    const std::int64_t result = Answer(call);
    if (result == kAskHost) return kAskHost;
    translations_.Finish();
    ++pool_.answered;
    return result;
  }

  // A page fault of the program's. True: the access may be made again.
  bool Fault(std::uint64_t page, std::uint64_t error_code) {
    if (!Allows(page, error_code)) return false;
    const std::uint8_t state = pool_.state[page];
    if ((state & MemoryPool::kStale) != 0) {
      translations_.Zero(page);
      pool_.state[page] = static_cast<std::uint8_t>(state & ~MemoryPool::kStale);
    }
    translations_.Map(page, (state & MemoryPool::kWrite) != 0);
    translations_.Finish();
    ++pool_.answered;
    return true;
  }

  // Whether the program may do what has faulted so.
  bool Allows(std::uint64_t page, std::uint64_t error_code) const {
    constexpr std::uint64_t kPresent = 1, kWriteAccess = 2, kUserAccess = 4;
    if (!IsPage(page)) return false;
    if ((error_code & ~(kPresent | kWriteAccess | kUserAccess)) != 0) return false;
    const std::uint8_t state = pool_.state[page];
    const bool writable = (state & MemoryPool::kWrite) != 0;
    const bool readable = writable || (state & MemoryPool::kRead) != 0;
    return IsOwnUsed(state) && ((error_code & kWriteAccess) != 0 ? writable : readable);
  }

 private:
  static constexpr std::uint64_t kPageBytes = 4096;
  // mmap, mprotect, munmap, brk, madvise; MADV_DONTNEED.
  static constexpr std::uint64_t kMmap = 9, kMprotect = 10, kMunmap = 11, kBrk = 12, kMadvise = 28,
                                 kDontNeed = 4;
  // MAP_PRIVATE | MAP_ANONYMOUS has to be, MAP_STACK and MAP_NORESERVE may be.
  static constexpr std::uint64_t kPlain = 0x22, kHints = 0x2'0000 | 0x4000;
  // Larger mappings are better off with huge pages.
  static constexpr std::uint64_t kMostPages = 511;
  static constexpr std::uint8_t kNoRights = 0xff;

  struct Range {
    std::uint64_t first, end;
  };

  static bool IsOwnUsed(std::uint8_t state) {
    return (state & (MemoryPool::kUsed | MemoryPool::kHost)) == MemoryPool::kUsed;
  }
  static bool IsFree(std::uint8_t state) {
    return (state & (MemoryPool::kUsed | MemoryPool::kHost | MemoryPool::kOld)) == 0;
  }

  // PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE.
  static std::uint8_t RightsOf(std::uint64_t prot) {
    if (prot == 0) return 0;
    if (prot == 1) return MemoryPool::kRead;
    return prot == 3 ? MemoryPool::kRead | MemoryPool::kWrite : kNoRights;
  }

  // The host opens the pool without its lock, and says so last: what is there before that is not to be looked at or changed.
  bool IsOpen() const { return __atomic_load_n(&pool_.pages, __ATOMIC_ACQUIRE) != 0; }

  bool IsPage(std::uint64_t page) const {
    return IsOpen() && (page < pool_.pages || page - MemoryPool::kPages < pool_.heap_pages);
  }

  // Empty unless it is a range of whole pages inside one of the pool's ranges.
  Range RangeOf(std::uint64_t address, std::uint64_t length) const {
    const Range range = RangeIn(address - pool_.start, length, pool_.pages);
    if (range.first != range.end) return range;
    const Range heap = RangeIn(address - pool_.heap_start, length, pool_.heap_pages);
    return {MemoryPool::kPages + heap.first, MemoryPool::kPages + heap.end};
  }
  static Range RangeIn(std::uint64_t offset, std::uint64_t length, std::uint64_t pages) {
    const std::uint64_t bytes = pages * kPageBytes;
    if (offset >= bytes || offset % kPageBytes != 0 || length > bytes - offset) return {0, 0};
    const std::uint64_t first = offset / kPageBytes;
    return {first, first + (length + kPageBytes - 1) / kPageBytes};
  }

  bool AllUsed(const Range& range) const {
    for (std::uint64_t page = range.first; page < range.end; ++page) {
      if (!IsOwnUsed(pool_.state[page])) return false;
    }
    return range.first < range.end;
  }

  std::int64_t Answer(const PoolCall& call) {
    if (!IsOpen()) return kAskHost;
    if (call.number == kMmap) return Map(call);
    if (call.number == kBrk) return Break(call.rdi);
    const Range range = RangeOf(call.rdi, call.rsi);
    if (call.number == kMunmap) return Unmap(range);
    if (call.number == kMprotect) return Protect(range, call.rdx);
    if (call.number == kMadvise && call.rdx == kDontNeed) return Discard(range);
    return kAskHost;
  }

  std::int64_t Map(const PoolCall& call) {
    const std::uint8_t rights = RightsOf(call.rdx);
    const bool plain = call.rdi == 0 && (call.r10 & ~kHints) == kPlain && call.r9 == 0;
    if (!plain || rights == kNoRights || call.rsi == 0 || call.rsi > kMostPages * kPageBytes) {
      return kAskHost;
    }
    const std::uint64_t wanted = (call.rsi + kPageBytes - 1) / kPageBytes;
    const std::uint64_t first = FindFree(wanted);
    if (first == MemoryPool::kPages) return kAskHost;
    for (std::uint64_t page = first; page < first + wanted; ++page) {
      const int kept = pool_.state[page] & MemoryPool::kStale;
      pool_.state[page] = static_cast<std::uint8_t>(MemoryPool::kUsed | rights | kept);
    }
    if (pool_.free_end == first + wanted) pool_.free_end = first;
    return static_cast<std::int64_t>(pool_.start + first * kPageBytes);
  }

  // The highest free place, as the host finds them; kPages: none.
  std::uint64_t FindFree(std::uint64_t wanted) {
    std::uint64_t highest = 0;  // behind the highest free page
    std::uint64_t found = 0;
    std::uint64_t page = pool_.free_end < pool_.pages ? pool_.free_end : pool_.pages;
    while (page > 0) {
      if (found == 0 && page % 8 == 0 && AllTaken(page - 8)) {
        page -= 8;
        continue;
      }
      --page;
      found = IsFree(pool_.state[page]) ? found + 1 : 0;
      if (found != 0 && highest == 0) highest = page + 1;
      if (found == wanted) break;
    }
    pool_.free_end = highest;
    return found == wanted ? page : MemoryPool::kPages;
  }

  // None of eight pages is free.
  bool AllTaken(std::uint64_t page) const {
    std::uint64_t eight;
    __builtin_memcpy(&eight, &pool_.state[page], sizeof(eight));
    static_assert(MemoryPool::kUsed << 4 == MemoryPool::kHost);
    constexpr std::uint64_t kEachUsed = 0x0101'0101'0101'0101;
    return ((eight | eight >> 4) & kEachUsed) == kEachUsed;
  }

  // Only to addresses inside the range for it, and never over other memory.
  std::int64_t Break(std::uint64_t address) {
    if (pool_.heap_pages == 0) return kAskHost;
    // As a question it is asked with 0.
    if (address < pool_.heap_lowest) return static_cast<std::int64_t>(pool_.heap_end);
    const std::uint64_t to = address - pool_.heap_start, from = pool_.heap_end - pool_.heap_start;
    const std::uint64_t bytes = pool_.heap_pages * kPageBytes;
    if (to > bytes || from > bytes) return kAskHost;
    const std::uint64_t before = MemoryPool::kPages + (from + kPageBytes - 1) / kPageBytes;
    const std::uint64_t after = MemoryPool::kPages + (to + kPageBytes - 1) / kPageBytes;
    if (after < before && Unmap({after, before}) != 0) return kAskHost;
    for (std::uint64_t page = before; page < after; ++page) {
      if (!IsFree(pool_.state[page])) return kAskHost;
    }
    for (std::uint64_t page = before; page < after; ++page) {
      const int kept = pool_.state[page] & MemoryPool::kStale;
      pool_.state[page] = static_cast<std::uint8_t>(MemoryPool::kUsed | MemoryPool::kRead |
                                                    MemoryPool::kWrite | kept);
    }
    pool_.heap_end = address;
    return static_cast<std::int64_t>(address);
  }

  std::int64_t Unmap(const Range& range) {
    if (range.first >= range.end) return kAskHost;
    for (std::uint64_t page = range.first; page < range.end; ++page) {
      if ((pool_.state[page] & MemoryPool::kHost) != 0) return kAskHost;
    }
    for (std::uint64_t page = range.first; page < range.end; ++page) {
      const std::uint8_t state = pool_.state[page];
      if ((state & MemoryPool::kUsed) == 0) continue;
      Forget(page);
      pool_.state[page] = static_cast<std::uint8_t>(MemoryPool::kStale | (state & MemoryPool::kOld));
    }
    if (range.end <= MemoryPool::kPages && pool_.free_end < range.end) pool_.free_end = range.end;
    return 0;
  }

  std::int64_t Protect(const Range& range, std::uint64_t prot) {
    const std::uint8_t rights = RightsOf(prot);
    if (rights == kNoRights || !AllUsed(range)) return kAskHost;
    for (std::uint64_t page = range.first; page < range.end; ++page) {
      const int kept = pool_.state[page] & (MemoryPool::kStale | MemoryPool::kOld);
      const auto state = static_cast<std::uint8_t>(MemoryPool::kUsed | rights | kept);
      if (pool_.state[page] == state) continue;
      pool_.state[page] = state;
      if (!translations_.IsMapped(page)) continue;
      if (rights == 0) {
        translations_.Drop(page);
      } else {
        translations_.Map(page, (rights & MemoryPool::kWrite) != 0);
      }
    }
    return 0;
  }

  std::int64_t Discard(const Range& range) {
    if (!AllUsed(range)) return kAskHost;
    for (std::uint64_t page = range.first; page < range.end; ++page) {
      Forget(page);
      pool_.state[page] = static_cast<std::uint8_t>(pool_.state[page] | MemoryPool::kStale);
    }
    return 0;
  }

  void Forget(std::uint64_t page) {
    if (translations_.IsMapped(page)) translations_.Drop(page);
  }

  MemoryPool& pool_;
  Translations& translations_;
};

}  // namespace dunebox::abi

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_HOSTCALLS_ABI_MEMORY_POOL_H_
