// For as long as it lives, a reader that is gone is EPIPE to the calling thread, and no signal.
//
//   const WithoutPipeSignal guard;
//   write(pipe, text, size);
#ifndef DUNEBOX_SANDBOX_PLUGIN_WITHOUT_PIPE_SIGNAL_H_
#define DUNEBOX_SANDBOX_PLUGIN_WITHOUT_PIPE_SIGNAL_H_

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "runtime/signals/action.h"

namespace dunebox::plugin {

class WithoutPipeSignal {
 public:
  WithoutPipeSignal() {
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &kPipe, &before_, sizeof(before_));
    syscall(SYS_rt_sigpending, &pending_, sizeof(pending_));
  }
  ~WithoutPipeSignal() {
    constexpr timespec kNow{};
    if ((pending_ & kPipe) == 0) syscall(SYS_rt_sigtimedwait, &kPipe, nullptr, &kNow, sizeof(kPipe));
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr, sizeof(before_));
  }
  WithoutPipeSignal(const WithoutPipeSignal&) = delete;
  WithoutPipeSignal& operator=(const WithoutPipeSignal&) = delete;

 private:
  static constexpr std::uint64_t kPipe = signals::MaskOf(SIGPIPE);
  std::uint64_t before_ = 0, pending_ = 0;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_WITHOUT_PIPE_SIGNAL_H_
