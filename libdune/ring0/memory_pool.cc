// Ring 0's part of the memory pool, in C++: called by entry.S and quick_routines.inc on the vCPU's trap
// stack. Freestanding, general registers only, no data of its own.
#include "hostcalls/abi/memory_pool.h"

#include "hostcalls/abi/ring0_abi.h"

namespace {

using dunebox::abi::MemoryPool;
using dunebox::abi::PoolCall;

// The pool's leaf entries, and the processor's memory of them.
class PageTranslations {
 public:
  explicit PageTranslations(const MemoryPool& pool) : pool_(pool) {}

  bool IsMapped(std::uint64_t page) const { return Entries()[page] != 0; }

  void Map(std::uint64_t page, bool writable) {
    const bool was_mapped = IsMapped(page);
    const std::uint64_t rights = writable ? kReadWrite : kReadOnly;
    Entries()[page] = (pool_.first_frame + page * kPageBytes) | rights;
    if (was_mapped) Invalidate(page);
  }

  void Drop(std::uint64_t page) {
    Entries()[page] = 0;
    Invalidate(page);
  }

  void Zero(std::uint64_t page) {
    void* at = Address(page);
    std::uint64_t words = kPageBytes / 8;
    // SMAP is out of the way until ring 3 goes on.
    asm volatile(
        "pushfq\n\torq %2, (%%rsp)\n\tpopfq\n\trep stosq"
        : "+D"(at), "+c"(words)
        : "i"(DUNE_RFLAGS_ACCESS), "a"(0)
        : "memory", "cc");
  }

  void Finish() {
    if (invalidated_ <= kMostSingle) return;
    std::uint64_t root;
    asm volatile("movq %%cr3, %0\n\tmovq %0, %%cr3" : "=r"(root) : : "memory");
  }

 private:
  static constexpr std::uint64_t kPageBytes = 4096;
  // Present, user, accessed, no execution; writable and dirty. [intel/vol3 §4.5]
  static constexpr std::uint64_t kReadOnly = 0x8000'0000'0000'0025;
  static constexpr std::uint64_t kReadWrite = kReadOnly | 0x42;
  // More of them cost more than to forget everything.
  static constexpr unsigned kMostSingle = 32;

  static volatile std::uint64_t* Entries() {
    return reinterpret_cast<volatile std::uint64_t*>(DUNE_ARENA_VIRT + DUNE_POOL_TABLES_OFFSET);
  }
  void* Address(std::uint64_t page) const {
    return reinterpret_cast<void*>(pool_.start + page * kPageBytes);
  }
  void Invalidate(std::uint64_t page) {
    if (++invalidated_ > kMostSingle) return;
    asm volatile("invlpg (%0)" : : "r"(Address(page)) : "memory");
  }

  const MemoryPool& pool_;
  unsigned invalidated_ = 0;
};

}  // namespace

// Entered with AX etc. free to use; the caller keeps the program's registers.
extern "C" std::int64_t ring0_pool_call(MemoryPool* pool, const PoolCall* call) {
  PageTranslations translations(*pool);
  return dunebox::abi::PoolCalls(*pool, translations).Call(*call);
}

extern "C" bool ring0_pool_fault(MemoryPool* pool, std::uint64_t page, std::uint64_t error_code) {
  PageTranslations translations(*pool);
  return dunebox::abi::PoolCalls(*pool, translations).Fault(page, error_code);
}
