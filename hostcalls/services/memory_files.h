// memfd_create. In a session whose host filter refuses memfds that could be executed, the program's
// are sealed against that (MFD_NOEXEC_SEAL); asking for an executable one is EACCES there, as on a
// kernel with vm.memfd_noexec = 2.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_MEMORY_FILES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_MEMORY_FILES_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandleMemfdCreate(Caller& caller, const ArgumentValues& arguments);
void RegisterMemoryFileHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_MEMORY_FILES_H_
