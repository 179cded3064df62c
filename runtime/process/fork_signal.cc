#include "runtime/process/fork_signal.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <span>

namespace dunebox::process {
namespace {

thread_local int fork_signal = SIGCHLD;
thread_local int* fork_pidfd = nullptr;

// Which the kernel has to change in a child.
pid_t* ThreadIdWord() {
  constexpr std::size_t kWords = 0x500 / sizeof(std::uint64_t);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a pthread_t is the descriptor's address here
  return ThreadIdIn(std::span(reinterpret_cast<std::uint64_t*>(pthread_self()), kWords), gettid());
}

}  // namespace

pid_t ForkWithSignal(int exit_signal, int* pidfd) {
  fork_signal = exit_signal;
  fork_pidfd = pidfd;
  const pid_t id = fork();
  fork_signal = SIGCHLD;
  fork_pidfd = nullptr;
  return id;
}

}  // namespace dunebox::process

// In place of the C library's. What that does besides, a list of robust mutexes for the child, the
// runtime has no use for: it has none.
extern "C" pid_t _Fork() {  // NOLINT(bugprone-reserved-identifier): the C library's name
  pid_t* const word = dunebox::process::ThreadIdWord();
  int* const pidfd = dunebox::process::fork_pidfd;
  const int flags = (word == nullptr ? 0 : CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID) | (pidfd == nullptr ? 0 : CLONE_PIDFD);
  return static_cast<pid_t>(
      syscall(SYS_clone, flags | dunebox::process::fork_signal, nullptr, pidfd, word, nullptr));
}
