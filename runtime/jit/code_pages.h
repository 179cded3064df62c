// Which pages of writable guest memory hold code that has been translated. The host mapping of such
// a page is read-only, so that the first store into it is seen; then it is writable again and what
// was translated from it is gone. A page where this happens too often is left writable for a while:
// blocks from it compare themselves with the guest's bytes each time they are entered. So are all but some thousand pages
// of a window that is one of many in a process: each may take two of its mappings.
//
// Too often is more often than it would be worth its time: virtual machines like Java's keep data of their own beside
// code that runs most of the time, and write there some times a second. Each time the page's blocks are made anew; but
// to have them check themselves all the time would be dearer by far. The time that is meant leaves out what stores have
// cost: where there are many such pages, there is little time by the clock for stores into any of them.
//
// Thread-safe; its lock is a leaf.
#ifndef DUNEBOX_RUNTIME_JIT_CODE_PAGES_H_
#define DUNEBOX_RUNTIME_JIT_CODE_PAGES_H_

#include <atomic>
#include <cstdint>
#include <mutex>

#include "absl/container/flat_hash_map.h"
#include "hostcalls/memory/guest_memory.h"

namespace dunebox::runtime {

class CodePages {
 public:
  using Nanoseconds = std::uint64_t;
  // `clock` never goes back.
  explicit CodePages(const hostcalls::GuestMemory& memory, Nanoseconds (*clock)() = &HostClock)
      : memory_(memory), clock_(clock) {}
  // Makes everything writable again.
  ~CodePages();

  enum class Watch : unsigned char {
    kNone,   // its blocks have to check themselves
    kFresh,  // from now on
    kThere,  // as before
  };
  // The guest may write the page at `address`, and code from it is about to be read.
  Watch Protect(GuestVirt address);
  // A store or a system call is about to write here: the protected pages become writable. True when
  // there was one.
  bool Unprotect(const GuestRange& range);
  bool IsProtected(GuestVirt address);
  // The mapping changes: nothing is known of the range any more.
  void Forget(const GuestRange& range);
  bool any_protected() const { return protected_.load(std::memory_order_relaxed) != 0; }

  void LockForFork() { mutex_.lock(); }
  void UnlockAfterFork() { mutex_.unlock(); }

 private:
  // Times are Now()'s.
  struct Page {
    bool is_protected = false;
    unsigned stores = 0;  // times it was made writable again, less those that are forgotten
    Nanoseconds last_store = 0;
    Nanoseconds checked_until = 0;  // its blocks check themselves
    Nanoseconds term = 0;           // for so long, the last time
  };
  static Nanoseconds HostClock();
  // Preconditions of both: the lock is held.
  Nanoseconds Now();
  void NoteStore(Page& page);
  template <typename Visit>
  void ForPagesIn(const GuestRange& range, Visit visit);
  void MakeWritable(std::uint64_t page) const;
  bool UnprotectPage(std::uint64_t address, Page& page);

  const hostcalls::GuestMemory& memory_;
  Nanoseconds (*const clock_)();
  std::mutex mutex_;       // guards what follows
  Nanoseconds spent_ = 0;  // on stores, and so not counted
  Nanoseconds latest_ = 0;
  absl::flat_hash_map<std::uint64_t, Page> pages_;  // by page-aligned address
  std::atomic<std::size_t> protected_{0};
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_CODE_PAGES_H_
