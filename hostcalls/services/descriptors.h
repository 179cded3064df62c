// dup, dup2, dup3, close_range and fcntl: what works on descriptors as such.
//
// Copies are made while no virtual machine's descriptor has a number that could be meant
// (low_descriptors.h).
// close_range leaves the runtime's descriptors out. fcntl knows its commands from a table
// (fcntls.inc); any other gives EINVAL, as on a kernel that does not have it.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_DESCRIPTORS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_DESCRIPTORS_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandleCloseRange(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleFcntl(Caller& caller, const ArgumentValues& arguments);
void RegisterDescriptorHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_DESCRIPTORS_H_
