#include "hostcalls/quiet_write.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace dunebox::hostcalls {
namespace {

// As the kernel counts them. Not by way of libc, which would let its own signals, 32 and 33, through again that the program blocks.
using Signals = std::uint64_t;
constexpr Signals BitOf(int signal) { return Signals{1} << (signal - 1); }
constexpr Signals kRaised = BitOf(SIGPIPE) | BitOf(SIGXFSZ);

struct Row {
  int error;
  Signals signal;
};
constexpr Row kRows[] = {{EPIPE, BitOf(SIGPIPE)}, {EFBIG, BitOf(SIGXFSZ)}};

Signals ChangeMask(int how, Signals signals) {
  Signals before = 0;
  syscall(SYS_rt_sigprocmask, how, &signals, &before, sizeof(signals));
  return before;
}

Signals Pending() {
  Signals pending = 0;
  syscall(SYS_rt_sigpending, &pending, sizeof(pending));
  return pending;
}

}  // namespace

ssize_t Quietly(absl::FunctionRef<ssize_t()> call) {
  const Signals mask = ChangeMask(SIG_BLOCK, kRaised);
  const Signals pending = Pending();
  ssize_t result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  const int error = errno;
  for (const Row& row : kRows) {
    // The signal goes to the thread that wrote: it is taken back, unless one was waiting before, which is the program's.
    const timespec now = {};
    if (result < 0 && error == row.error && (pending & row.signal) == 0) {
      syscall(SYS_rt_sigtimedwait, &row.signal, nullptr, &now, sizeof(row.signal));
    }
  }
  ChangeMask(SIG_SETMASK, mask);
  errno = error;
  return result;
}

}  // namespace dunebox::hostcalls
