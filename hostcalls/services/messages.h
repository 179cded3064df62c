// sendmsg, recvmsg, sendmmsg, recvmmsg: calls whose argument is a structure with pointers in it.
//
// The kernel gets our copy of every header, of the arrays of buffers and, when sending, of the
// address and the control data: none of it can change between check and use. Buffers, and what is
// received, are the guest's own memory, range-checked. Descriptors to send may not be reserved, and
// are looked up while no virtual machine's has another number (low_descriptors.h).
#ifndef DUNEBOX_HOSTCALLS_SERVICES_MESSAGES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_MESSAGES_H_

#include <cstddef>
#include <span>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// Control data to send, already copied: EBADF for a reserved descriptor in it, EINVAL for what
// cannot be taken apart or carries addresses. Pure.
SyscallResult CheckControl(std::span<const std::byte> control, ReservedDescriptors reserved);

SyscallResult HandleSendmsg(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleRecvmsg(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleSendmmsg(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleRecvmmsg(Caller& caller, const ArgumentValues& arguments);
void RegisterMessageHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_MESSAGES_H_
