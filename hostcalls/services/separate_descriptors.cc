#include "hostcalls/services/separate_descriptors.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::size_t kStack = std::size_t{256} << 10;
// A thread of the process in all but the table. The caller waits, so that its thread-local storage
// can be used.
constexpr int kFlags =
    CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_VFORK;

constexpr std::uint64_t MaskOf(int signal) { return std::uint64_t{1} << (signal - 1); }
// The copies of guest memory rely on these.
constexpr std::uint64_t kFaults =
    MaskOf(SIGSEGV) | MaskOf(SIGBUS) | MaskOf(SIGILL) | MaskOf(SIGFPE) | MaskOf(SIGTRAP);

// Not the C library's, which leaves some signals out.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    const std::uint64_t all = ~kFaults;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before_, sizeof(before_));
  }
  ~SignalsBlocked() {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr, sizeof(before_));
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  std::uint64_t before_ = 0;
};

// What this thread closes releases no locks.
thread_local bool may_close = false;

int Main(void* work) {
  (*static_cast<absl::FunctionRef<void()>*>(work))();
  // At once: the caller goes on before the kernel has done it for the ending thread.
  syscall(SYS_close_range, 0U, ~0U, 0U);
  return 0;
}

}  // namespace

NoLocksYet::NoLocksYet() { may_close = true; }
NoLocksYet::~NoLocksYet() { may_close = false; }

void WithSeparateDescriptors(absl::FunctionRef<void()> work) {
  if (may_close) return work();
  void* const stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  const SignalsBlocked blocked;
  may_close = true;  // there
  const bool done = stack != MAP_FAILED &&
                    clone(Main, static_cast<std::byte*>(stack) + kStack, kFlags, &work) >= 0;
  may_close = false;
  if (stack != MAP_FAILED) munmap(stack, kStack);
  if (!done) work();
}

std::string DescriptorPath(int fd) { return absl::StrCat("/proc/thread-self/fd/", fd); }

}  // namespace dunebox::hostcalls
