// A system call to the host kernel in the guest's name, which no signal can slip past.
//
// The stub checks `pending` and executes SYSCALL inside one window of code; a host
// signal handler that finds its interrupted RIP in that window moves it to the
// exit that returns Restart (HostCallRewind). So a signal is either seen before the
// kernel starts the call, or the kernel itself ends the call because of it.
#ifndef DUNEBOX_HOSTCALLS_DISPATCH_HOST_CALL_H_
#define DUNEBOX_HOSTCALLS_DISPATCH_HOST_CALL_H_

#include <atomic>
#include <cstdint>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// Issues `number` with `arguments` as they are: the caller has validated them.
SyscallResult HostCall(Caller& caller, std::uint64_t number, const ArgumentValues& arguments);

// Async-signal-safe. The RIP at which the interrupted thread has to continue: the stub's
// restart exit when `rip` is in its window, `rip` itself otherwise.
std::uint64_t HostCallRewind(std::uint64_t rip);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_DISPATCH_HOST_CALL_H_
