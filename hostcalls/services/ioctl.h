// ioctl: an allow-list of requests with the type of their argument (ioctls.inc).
//
// A request without a row gives ENOTTY and never reaches the host: what its argument means, and
// what addresses are in it, is not known. The same number can mean another thing to another
// driver; so numbers are passed with 32 bits (never an address of the runtime's), and a structure
// is one that has no pointers in it, or is taken apart here.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_IOCTL_H_
#define DUNEBOX_HOSTCALLS_SERVICES_IOCTL_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandleIoctl(Caller& caller, const ArgumentValues& arguments);
void RegisterIoctlHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_IOCTL_H_
