// setsockopt, getsockopt: values of a stated length, but for those that have pointers in them.
//
// Which levels reach the host, and which options of those do not, is in socket_options.inc. What may
// be set under a policy is in hostcalls/policy/socket_options.inc. The
// length that getsockopt takes by reference is copied once and the kernel gets the copy.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_SOCKET_OPTIONS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_SOCKET_OPTIONS_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandleSetsockopt(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleGetsockopt(Caller& caller, const ArgumentValues& arguments);
void RegisterSocketOptionHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_SOCKET_OPTIONS_H_
