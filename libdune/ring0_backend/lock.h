// A mutual exclusion of loops: no owner, no thread-local storage. Never held while a system call
// may block for long, and never by code that runs in ring 0, which may need its loop to go on.
//
//   const LoopLock::Holder holder(lock);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_LOCK_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_LOCK_H_

#include <linux/futex.h>

#include <atomic>

#include "libdune/ring0_backend/raw_call.h"

namespace dune::ring0 {

class LoopLock {
 public:
  class Holder {
   public:
    explicit Holder(LoopLock& lock) : lock_(lock) { lock_.Lock(); }
    ~Holder() { lock_.Unlock(); }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

   private:
    LoopLock& lock_;
  };

  void Lock() {
    std::uint32_t seen = kFree;
    if (word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) return;
    while (word_.exchange(kWaited, std::memory_order_acquire) != kFree) {
      RawCall(SYS_futex, &word_, FUTEX_WAIT_PRIVATE, kWaited, nullptr);
    }
  }
  void Unlock() {
    if (word_.exchange(kFree, std::memory_order_release) == kWaited) {
      RawCall(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, 1);
    }
  }

 private:
  static constexpr std::uint32_t kFree = 0, kHeld = 1, kWaited = 2;
  std::atomic<std::uint32_t> word_{kFree};
};

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_LOCK_H_
