// Which pages of writable guest memory hold code that has been translated. The host mapping of such a
// page is read-only, so that the first store into it is seen; then it is writable again and what was
// translated from it is gone.
//
// Thread-safe.
#ifndef DUNEBOX_RUNTIME_JIT_CODE_PAGES_H_
#define DUNEBOX_RUNTIME_JIT_CODE_PAGES_H_

#include <atomic>
#include <cstdint>
#include <mutex>

#include "absl/container/flat_hash_set.h"
#include "hostcalls/memory/guest_memory.h"

namespace dunebox::runtime {

class CodePages {
 public:
  explicit CodePages(const hostcalls::GuestMemory& memory) : memory_(memory) {}
  // Makes everything writable again.
  ~CodePages();

  // The guest may write the page at `address`, and code from it is about to be read.
  void Protect(GuestVirt address);
  // Makes the protected pages of the range writable; true when there was one.
  bool Unprotect(const GuestRange& range);
  bool any() const { return count_.load(std::memory_order_relaxed) != 0; }

  void LockForFork() { mutex_.lock(); }
  void UnlockAfterFork() { mutex_.unlock(); }

 private:
  void MakeWritable(std::uint64_t page) const;

  const hostcalls::GuestMemory& memory_;
  std::mutex mutex_;
  absl::flat_hash_set<std::uint64_t> pages_;  // page-aligned addresses
  std::atomic<std::size_t> count_{0};
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_CODE_PAGES_H_
