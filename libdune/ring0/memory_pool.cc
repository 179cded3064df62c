// Ring 0's part of the memory pool, in C++: called by entry.S and quick_routines.inc on the vCPU's trap
// stack. Freestanding, general registers only, no data of its own.
#include "hostcalls/abi/memory_pool.h"

#include "hostcalls/abi/ring0_abi.h"
#include "libdune/ring0/pool_state.h"

// In entry.S: makes sure that KVM has a page that the host takes away to make all vCPUs forget; asks it to.
extern "C" void ring0_ring_doorbell();
extern "C" void ring0_flush_others();

namespace {

using dunebox::abi::MemoryPool;
using dunebox::abi::PoolCall;
using dunebox::abi::PoolLock;
using dunebox::abi::Ring0State;
using dune::ring0::kPoolTries;
using dune::ring0::StateOf;

// The pool's leaf entries, and the processor's memory of them.
class PageTranslations {
 public:
  explicit PageTranslations(const MemoryPool& pool) : pool_(pool) {}

  bool IsMapped(std::uint64_t page) const { return Entries()[page] != 0; }

  void Map(std::uint64_t page, bool writable) {
    const std::uint64_t before = Entries()[page];
    const std::uint64_t rights = writable ? kReadWrite : kReadOnly;
    Entries()[page] = Frame(page) | rights;
    if (before == 0) return;
    if (!writable && (before & kWritable) != 0) reduced_ = true;
    Invalidate(page);
  }

  void Drop(std::uint64_t page) {
    Entries()[page] = 0;
    reduced_ = true;
    Invalidate(page);
  }

  // Meanwhile the page is ring 0's alone: another thread that comes here faults.
  void Zero(std::uint64_t page) {
    Entries()[page] = Frame(page) | (kReadWrite & ~kUser);
    void* at = Address(page);
    std::uint64_t words = kPageBytes / 8;
    // SMAP is out of the way until ring 3 goes on.
    asm volatile(
        "pushfq\n\torq %2, (%%rsp)\n\tpopfq\n\trep stosq"
        : "+D"(at), "+c"(words)
        : "i"(DUNE_RFLAGS_ACCESS), "a"(0)
        : "memory", "cc");
    Entries()[page] = 0;
    asm volatile("invlpg (%0)" : : "r"(Address(page)) : "memory");
  }

  // Whether other processors may remember more than is allowed now.
  bool reduced() const { return reduced_; }

  void Finish() {
    if (invalidated_ <= kMostSingle) return;
    std::uint64_t root;
    asm volatile("movq %%cr3, %0\n\tmovq %0, %%cr3" : "=r"(root) : : "memory");
  }

 private:
  static constexpr std::uint64_t kPageBytes = 4096;
  // Present, user, accessed, no execution; writable and dirty. [intel/vol3 §4.5]
  static constexpr std::uint64_t kUser = 0x04, kWritable = 0x02;
  static constexpr std::uint64_t kReadOnly = 0x8000'0000'0000'0021 | kUser;
  static constexpr std::uint64_t kReadWrite = kReadOnly | kWritable | 0x40;
  // More of them cost more than to forget everything.
  static constexpr unsigned kMostSingle = 32;

  static volatile std::uint64_t* Entries() {
    return reinterpret_cast<volatile std::uint64_t*>(DUNE_ARENA_VIRT + DUNE_POOL_TABLES_OFFSET);
  }
  // In the first range or the second.
  std::uint64_t Place(std::uint64_t page, std::uint64_t start, std::uint64_t heap) const {
    return page < MemoryPool::kPages ? start + page * kPageBytes
                                     : heap + (page - MemoryPool::kPages) * kPageBytes;
  }
  std::uint64_t Frame(std::uint64_t page) const {
    return Place(page, pool_.first_frame, pool_.heap_first_frame);
  }
  void* Address(std::uint64_t page) const {
    return reinterpret_cast<void*>(Place(page, pool_.start, pool_.heap_start));
  }
  void Invalidate(std::uint64_t page) {
    if (++invalidated_ > kMostSingle) return;
    asm volatile("invlpg (%0)" : : "r"(Address(page)) : "memory");
  }

  const MemoryPool& pool_;
  unsigned invalidated_ = 0;
  bool reduced_ = false;
};

// Nobody else is told what this vCPU has changed: it forgets by itself. Those that are outside look at the
// count before they come in again (runtime/kvm/translation_flushes.h), and count themselves before they look.
void ForgetOnOthers(MemoryPool& pool, Ring0State& state) {
  ring0_ring_doorbell();
  ++state.reductions;
  __atomic_fetch_add(&pool.reductions, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&pool.inside, __ATOMIC_SEQ_CST) != 1) ring0_flush_others();
}

}  // namespace

// Entered with AX etc. free to use; the caller keeps the program's registers.
extern "C" std::int64_t ring0_pool_call(MemoryPool* pool, const PoolCall* call) {
  PageTranslations translations(*pool);
  std::int64_t result = dunebox::abi::PoolCalls<PageTranslations>::kAskHost;
  {
    const PoolLock lock(*pool, kPoolTries);
    if (lock.held()) result = dunebox::abi::PoolCalls(*pool, translations).Call(*call);
  }
  if (translations.reduced()) ForgetOnOthers(*pool, StateOf(call));
  return result;
}

extern "C" bool ring0_pool_fault(MemoryPool* pool, std::uint64_t page, std::uint64_t error_code) {
  PageTranslations translations(*pool);
  const PoolLock lock(*pool, kPoolTries);
  return lock.held() && dunebox::abi::PoolCalls(*pool, translations).Fault(page, error_code);
}
