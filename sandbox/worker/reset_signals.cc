#include "sandbox/worker/reset_signals.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "runtime/signals/action.h"

namespace dunebox::worker {

void ResetSignals() {
  for (int signal = 1; signal <= signals::kSignalCount; ++signal) {
    constexpr signals::KernelAction kDefault;
    syscall(SYS_rt_sigaction, signal, &kDefault, nullptr, sizeof(kDefault.mask));
  }
  constexpr std::uint64_t kNone = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &kNone, nullptr, sizeof(kNone));
}

}  // namespace dunebox::worker
