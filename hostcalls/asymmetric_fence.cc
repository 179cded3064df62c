#include "hostcalls/asymmetric_fence.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace dunebox {
namespace {

// Longer than a store waits in a processor before the others see it, by far: as long as a timer's tick.
constexpr timespec kLongAfterAnyStore = {.tv_sec = 0, .tv_nsec = 20'000'000};

bool Ask(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }
bool Register() { return Ask(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }

}  // namespace

void PrepareAsymmetricFences() {
  static const bool is_asked = [] {
    const bool has_kernel = Register() && Ask(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    asymmetric_fence::has_kernel.store(has_kernel, std::memory_order_relaxed);
    return true;
  }();
  (void)is_asked;
}

void HeavyFence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!asymmetric_fence::has_kernel.load(std::memory_order_relaxed)) return;
  // A forked child may have to register again.
  if (Ask(MEMBARRIER_CMD_PRIVATE_EXPEDITED) || (Register() && Ask(MEMBARRIER_CMD_PRIVATE_EXPEDITED))) {
    return;
  }
  // The application has forbidden itself the call. From now on both fences are ordinary ones; who has just gone past a
  // light one is waited for.
  asymmetric_fence::has_kernel.store(false, std::memory_order_seq_cst);
  timespec left = kLongAfterAnyStore;
  while (nanosleep(&left, &left) != 0) {
  }
}

}  // namespace dunebox
