// prctl, personality, seccomp: settings of a process that are its runtime's as well.
//
// prctl knows its options from a table (prctls.inc). What the runtime would suffer from is refused
// or remembered; what is harmless, or wanted for both, is forwarded.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_PROCESS_MISC_H_
#define DUNEBOX_HOSTCALLS_SERVICES_PROCESS_MISC_H_

#include <sys/personality.h>

#include <cstdint>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

SyscallResult HandlePrctl(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleMembarrier(Caller& caller, const ArgumentValues& arguments);
// What of a personality the kernel is never given, because it would place the runtime by it: remembered of each thread, and
// heeded for the program's own layout when it executes another one.
inline constexpr std::uint32_t kKeptPersonality = ADDR_NO_RANDOMIZE;
SyscallResult HandlePersonality(Caller& caller, const ArgumentValues& arguments);
// A filter of the guest's would confine the runtime: the modes give EINVAL, as on a kernel without
// CONFIG_SECCOMP_FILTER. The two queries are the kernel's.
SyscallResult HandleSeccomp(Caller& caller, const ArgumentValues& arguments);
void RegisterProcessMiscHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_PROCESS_MISC_H_
