// A system call to the host kernel in the guest's name, which no signal can slip past.
//
// The stub checks `pending` and executes SYSCALL inside one window of code; a host
// signal handler that finds its interrupted RIP in that window moves it to the
// exit that returns Restart (HostCallRewind). So a signal is either seen before the
// kernel starts the call, or the kernel itself ends the call because of it.
//
// Two views of memory for the kernel (isolation pku, docs/isolation.md). HostCall is the one to
// use: the kernel sees guest memory and what is staged (hostcalls/memory/staging.h), and EFAULT is
// what comes of any other address. RuntimeCall is for calls all of whose pointers are the runtime's
// own; an address from the guest has no business there. Without protection keys they are the same.
//
//   RuntimeCall(caller, SYS_openat2, Arguments(directory, path.c_str(), &how, sizeof(how)));
//   HostCall(caller, SYS_read, {fd, address, count});
#ifndef DUNEBOX_HOSTCALLS_DISPATCH_HOST_CALL_H_
#define DUNEBOX_HOSTCALLS_DISPATCH_HOST_CALL_H_

#include <atomic>
#include <cstdint>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// Issues `number` with `arguments` as they are: the caller has validated them.
SyscallResult HostCall(Caller& caller, std::uint64_t number, const ArgumentValues& arguments);
SyscallResult RuntimeCall(Caller& caller, std::uint64_t number, const ArgumentValues& arguments);

// RuntimeCall for who is no Caller: `pending` is its word.
SyscallResult InterruptibleCall(const std::atomic<std::uint32_t>& pending, std::uint64_t number,
                                const ArgumentValues& arguments);

// Async-signal-safe. The RIP at which the interrupted thread has to continue: the stub's
// restart exit when `rip` is in its window, `rip` itself otherwise.
std::uint64_t HostCallRewind(std::uint64_t rip);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_DISPATCH_HOST_CALL_H_
