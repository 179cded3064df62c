#include "runtime/kvm/translation_flushes.h"

#include <sys/mman.h>

#include "hostcalls/check.h"
#include "hostcalls/memory/address.h"

namespace dunebox::kvm {

void TranslationFlushes::Enter(Visit& visit, std::uint64_t own) {
  __atomic_fetch_add(&pool_.inside, 1, __ATOMIC_SEQ_CST);
  const std::uint64_t all = __atomic_load_n(&pool_.reductions, __ATOMIC_SEQ_CST);
  if (all - visit.all != own - visit.own) Flush();
  visit = {.all = all, .own = own};
}

void TranslationFlushes::Leave() { __atomic_fetch_sub(&pool_.inside, 1, __ATOMIC_SEQ_CST); }

void TranslationFlushes::Flush() {
  std::lock_guard lock(mutex_);
  const std::uint64_t all = __atomic_load_n(&pool_.reductions, __ATOMIC_SEQ_CST);
  if (all == flushed_) return;
  DUNEBOX_CHECK(madvise(doorbell_, kPageSize, MADV_DONTNEED) == 0,
                "the kernel does not take back a page of the supervisor's");
  flushed_ = all;
  ++flushes_;
}

std::uint64_t TranslationFlushes::flushes() {
  std::lock_guard lock(mutex_);
  return flushes_;
}

}  // namespace dunebox::kvm
