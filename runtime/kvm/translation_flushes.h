// Makes vCPUs forget translations that another one's ring 0 has taken away in the memory pool.
//
// Ring 0 counts what it takes away (MemoryPool::reductions) and looks then how many vCPUs are inside: if another
// one is, it asks for Flush by a hypercall before its call returns; if none is, whoever comes in later sees
// the count here. Both sides count first and look then, so one of the two sees the other.
//
// To flush: the doorbell page's memory is taken away on the host, and KVM makes all vCPUs of the machine forget
// everything, running or not, before that returns. Ring 0 has touched the page, so KVM had it.
// Of the numbers in the pool nothing is believed: wrong ones only flush too often, or not for their own program.
//
//   Visit visit;                            // one for each vCPU
//   flushes.Enter(visit, state.reductions);
//   KVM_RUN
//   flushes.Leave();
#ifndef DUNEBOX_RUNTIME_KVM_TRANSLATION_FLUSHES_H_
#define DUNEBOX_RUNTIME_KVM_TRANSLATION_FLUSHES_H_

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "hostcalls/abi/memory_pool.h"

namespace dunebox::kvm {

class TranslationFlushes {
 public:
  // The counts when a vCPU last went in.
  struct Visit {
    std::uint64_t all = 0;
    std::uint64_t own = 0;
  };

  // Both are the arena's, at the doorbell a whole page.
  TranslationFlushes(abi::MemoryPool& pool, std::byte* doorbell)
      : pool_(pool), doorbell_(doorbell) {}

  // `own` is how much of the count is this vCPU's, which forgets that by itself.
  void Enter(Visit& visit, std::uint64_t own);
  void Leave();
  // What was taken away before is forgotten when this returns.
  void Flush();
  // How often that needed the kernel.
  std::uint64_t flushes();

 private:
  abi::MemoryPool& pool_;
  std::byte* const doorbell_;
  std::mutex mutex_;
  std::uint64_t flushed_ = 0;  // the count up to which all is forgotten
  std::uint64_t flushes_ = 0;
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_TRANSLATION_FLUSHES_H_
