// timer_create. The other timer calls are forwarded: their structures have no pointers in them.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_TIMERS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_TIMERS_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// The value that a signal of the timer carries is a number to the kernel; a thread id in it has to
// be one of the process, which the kernel checks.
SyscallResult HandleTimerCreate(Caller& caller, const ArgumentValues& arguments);
void RegisterTimerHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_TIMERS_H_
