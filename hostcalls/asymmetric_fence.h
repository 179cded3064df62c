// A full fence in two halves, for two threads of which each writes one word and then reads the other's: one of them, which
// is often there, pays nothing, and the other, which seldom comes, has the kernel put a fence into all threads of the
// process (membarrier). Where the kernel does not, both are ordinary fences.
//
//   is_running.store(true, std::memory_order_relaxed);     version.fetch_add(1);
//   LightFence();                                          HeavyFence();
//   if (version.load(...) != known) ...                    while (is_running.load(...)) ...
#ifndef DUNEBOX_HOSTCALLS_ASYMMETRIC_FENCE_H_
#define DUNEBOX_HOSTCALLS_ASYMMETRIC_FENCE_H_

#include <atomic>

namespace dunebox {

namespace asymmetric_fence {
// Set before the threads begin that the fences are for.
inline constinit std::atomic<bool> has_kernel{false};
}

// For this process, from now on; before the first thread that relies on it. Without this, both are ordinary fences.
void PrepareAsymmetricFences();

inline void LightFence() {
  if (asymmetric_fence::has_kernel.load(std::memory_order_relaxed)) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } else {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
}
void HeavyFence();

}  // namespace dunebox

#endif  // DUNEBOX_HOSTCALLS_ASYMMETRIC_FENCE_H_
