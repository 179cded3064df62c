#include "hostcalls/trace/write_line.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

namespace dunebox::hostcalls {
namespace {

// Keeps SIGPIPE of a write from reaching the program, which did not do it.
class SigpipeGuard {
 public:
  SigpipeGuard() {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    sigset_t pending;
    was_pending_ = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &previous_mask_);
  }
  ~SigpipeGuard() { pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr); }
  SigpipeGuard(const SigpipeGuard&) = delete;
  SigpipeGuard& operator=(const SigpipeGuard&) = delete;

  // The signal of a broken pipe goes to the thread that wrote: take it back, unless one was
  // waiting before, which is the program's.
  void Discard() const {
    const timespec now = {};
    if (!was_pending_) sigtimedwait(&sigpipe_, nullptr, &now);
  }

 private:
  sigset_t sigpipe_;
  sigset_t previous_mask_;
  bool was_pending_;
};

}  // namespace

void WriteLine(int fd, std::string_view line) {
  const int saved_errno = errno;
  const SigpipeGuard guard;
  ssize_t written;
  do {
    written = write(fd, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0 && errno == EPIPE) guard.Discard();
  errno = saved_errno;
}

}  // namespace dunebox::hostcalls
