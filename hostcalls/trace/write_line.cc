#include "hostcalls/trace/write_line.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

namespace dunebox::hostcalls {
namespace {

// Keeps a signal that a write raises (SIGPIPE: nobody reads; SIGXFSZ: the file may not grow) from
// reaching the program, which did not write.
class SignalGuard {
 public:
  explicit SignalGuard(int signal) {
    sigemptyset(&signal_);
    sigaddset(&signal_, signal);
    sigset_t pending;
    was_pending_ = sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
    pthread_sigmask(SIG_BLOCK, &signal_, &previous_mask_);
  }
  ~SignalGuard() { pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr); }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

  // The signal goes to the thread that wrote: take it back, unless one was waiting before, which is
  // the program's.
  void Discard() const {
    const timespec now = {};
    if (!was_pending_) sigtimedwait(&signal_, nullptr, &now);
  }

 private:
  sigset_t signal_;
  sigset_t previous_mask_;
  bool was_pending_;
};

}  // namespace

bool WriteLine(int fd, std::string_view line) {
  const int saved_errno = errno;
  const SignalGuard broken_pipe(SIGPIPE);
  const SignalGuard file_too_big(SIGXFSZ);
  ssize_t written;
  do {
    written = write(fd, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0 && errno == EPIPE) broken_pipe.Discard();
  if (written < 0 && errno == EFBIG) file_too_big.Discard();
  errno = saved_errno;
  return written == static_cast<ssize_t>(line.size());
}

}  // namespace dunebox::hostcalls
