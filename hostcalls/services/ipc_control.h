// semctl, msgctl: the last argument is a number, a structure or an array, by command.
//
// The kernel works on copies. shmctl is with the memory calls, which it belongs to.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_IPC_CONTROL_H_
#define DUNEBOX_HOSTCALLS_SERVICES_IPC_CONTROL_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandleSemctl(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleMsgctl(Caller& caller, const ArgumentValues& arguments);
void RegisterIpcControlHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_IPC_CONTROL_H_
