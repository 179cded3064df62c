// The signals of a process that has sandboxes in it. The dispositions stay the host application's; ours
// go in front of them, because a signal may come while guest code runs:
//
// - what the CPU raises in guest code (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP) is the sandbox's and
//   ends the call; faults of our copies of guest memory continue at their fixup; every other one is
//   passed on to the handler that the application had, or has its default action;
// - the kick, a real-time signal that the application has no handler for, takes a thread out of guest
//   code or out of a system call that it waits in;
// - any other handler of the application's runs on the thread's alternate stack, never on the guest's,
//   and with the application's FS base.
//
// For that, functions of the C library are interposed: this library defines them.
// - sigaction, signal, and bsd_signal, ssignal, sysv_signal, sigset, sigignore: what a handler is set to later is
//   put behind ours as well;
// - pthread_sigmask, sigprocmask, and sighold, sigblock, sigsetmask: what sandboxes need stays unblocked;
// - sigaltstack: a thread that has been in a sandbox keeps an alternate stack of some size.
// Who goes past them after the first sandbox (raw system calls) breaks that promise; what was before is taken over
// however it came about.
//
//   if (absl::Status status = TakeOverSignals(); !status.ok()) return status;
#ifndef DUNEBOX_SANDBOX_PLUGIN_HOST_SIGNALS_H_
#define DUNEBOX_SANDBOX_PLUGIN_HOST_SIGNALS_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"
#include "jit-fallback/dispatch/thread_context.h"

namespace dunebox::runtime {
class EngineThread;
}

namespace dunebox::plugin {

// Once a process, and every time OK after that. kUnavailable: no real-time signal is free.
absl::Status TakeOverSignals();

// Has a thread of this process leave guest code, if it is in it. Its engine has been told before.
void SendKick(pid_t thread);

// Makes the calling host thread one that can be in a sandbox.
void PrepareThreadNow();
inline void PrepareThread() {
  if (!jit::IsHostThreadReady()) PrepareThreadNow();
}

// From now on, what the calling thread runs is kicked whenever a handler of the application's has run in this thread; null:
// nothing is. Returns how many have run in it so far.
std::uint64_t KickAfterHandlers(runtime::EngineThread* thread);
std::uint64_t HandlersRun();

// For the mask of threads that are no business of the application's: all signals but those that sandboxes
// need.
std::uint64_t ApplicationSignals();

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_HOST_SIGNALS_H_
