// prctl, personality, seccomp: settings of a process that are its runtime's as well.
//
// prctl knows its options from a table (prctls.inc). What the runtime would suffer from is refused
// or remembered; what is harmless, or wanted for both, is forwarded.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_PROCESS_MISC_H_
#define DUNEBOX_HOSTCALLS_SERVICES_PROCESS_MISC_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandlePrctl(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandlePersonality(Caller& caller, const ArgumentValues& arguments);
// A filter of the guest's would confine the runtime: the modes give EINVAL, as on a kernel without
// CONFIG_SECCOMP_FILTER. The two queries are the kernel's.
SyscallResult HandleSeccomp(Caller& caller, const ArgumentValues& arguments);
void RegisterProcessMiscHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_PROCESS_MISC_H_
