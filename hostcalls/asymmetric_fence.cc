#include "hostcalls/asymmetric_fence.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostcalls/check.h"

namespace dunebox {
namespace {

bool Ask(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }
bool Register() { return Ask(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }

}  // namespace

void PrepareAsymmetricFences() {
  static const bool has_kernel = Register() && Ask(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  asymmetric_fence::has_kernel.store(has_kernel, std::memory_order_relaxed);
}

void HeavyFence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!asymmetric_fence::has_kernel.load(std::memory_order_relaxed)) return;
  // A forked child may have to register again.
  const bool is_done = Ask(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
                       (Register() && Ask(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
  DUNEBOX_CHECK(is_done, "the kernel makes no fences any more");
}

}  // namespace dunebox
