// fork() with another signal to the parent than SIGCHLD when the child ends.
//
// The C library knows no such fork, but it alone can bring its locks over a fork of a process with
// several threads. It does the rest of fork() around _Fork(), which is ours in the runtime's static
// executable and asks the kernel for the signal wanted.
#ifndef DUNEBOX_RUNTIME_PROCESS_FORK_SIGNAL_H_
#define DUNEBOX_RUNTIME_PROCESS_FORK_SIGNAL_H_

#include <sys/types.h>

namespace dunebox::process {

// As fork(). `exit_signal` 0: none. Signals are blocked by the caller.
pid_t ForkWithSignal(int exit_signal);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_FORK_SIGNAL_H_
