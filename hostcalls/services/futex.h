// futex: operations of an allow-list (futexes.inc), by what their arguments are.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_FUTEX_H_
#define DUNEBOX_HOSTCALLS_SERVICES_FUTEX_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// The words are the guest's own, in the window; the timeout is copied.
SyscallResult HandleFutex(Caller& caller, const ArgumentValues& arguments);
void RegisterFutexHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_FUTEX_H_
