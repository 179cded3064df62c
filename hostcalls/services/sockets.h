// socket, connect, bind, listen, sendto, getsockname: the calls that lead to other machines and processes, as far
// as the session's network rules let them.
//
// An address is copied once; the kernel gets the copy that was judged (checked_address.h). A socket
// that nobody bound may listen only where the rules leave the port to the kernel. What accept gives
// needs no question: who may come is decided where the socket listens. A socket received from
// another process, or inherited, is the right to use it as it is connected and bound; a new address
// is judged for it as for any other. Raw and packet sockets, and netlink but for questions about
// the network, are not made under any policy.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_SOCKETS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_SOCKETS_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandleSocket(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleSocketpair(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleConnect(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleBind(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleGetsockname(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleListen(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleSendto(Caller& caller, const ArgumentValues& arguments);
void RegisterSocketHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_SOCKETS_H_
