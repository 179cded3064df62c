// fork() with another signal to the parent than SIGCHLD when the child ends, and with a descriptor of the child.
//
// The C library knows no such fork, but it alone can bring its locks over a fork of a process with
// several threads. It does the rest of fork() around _Fork(), which is ours in the runtime's static
// executable and asks the kernel for what is wanted.
#ifndef DUNEBOX_RUNTIME_PROCESS_FORK_SIGNAL_H_
#define DUNEBOX_RUNTIME_PROCESS_FORK_SIGNAL_H_

#include <sys/types.h>

#include <cstdint>
#include <span>

namespace dunebox::process {

// Where a thread's descriptor of the C library has its id: at a place that depends on the library's version, with an unused half of a
// word behind it. Half of a pointer may be the same number. Null when it is not found.
inline pid_t* ThreadIdIn(std::span<std::uint64_t> descriptor, pid_t id) {
  for (std::uint64_t& word : descriptor) {
    if (word == static_cast<std::uint64_t>(id)) return reinterpret_cast<pid_t*>(&word);
  }
  return nullptr;
}

// As fork(). `exit_signal` 0: none. `pidfd`: where the parent's descriptor of the child is written (CLONE_PIDFD); null: none is
// made. Signals are blocked by the caller.
pid_t ForkWithSignal(int exit_signal, int* pidfd);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_FORK_SIGNAL_H_
