// readlink, readlinkat, getdents, getdents64: what the guest reads of names in procfs.
//
// Names only, so nothing here guards the runtime: a reserved descriptor's name gives no access
// (open.h). /proc/<own pid>/exe is the program, and the runtime's descriptors are not listed.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_PROC_VIEWS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_PROC_VIEWS_H_

#include <cstddef>
#include <span>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// Removes the entries named by a reserved number from what getdents64 gave (or getdents, with its
// own place of the name); the bytes that are left, at the front of `entries`. Pure.
std::size_t HideReserved(std::span<std::byte> entries, ReservedDescriptors reserved,
                         std::size_t name_offset = 19);

SyscallResult HandleReadlink(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleReadlinkat(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleGetdents(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleGetdents64(Caller& caller, const ArgumentValues& arguments);
void RegisterProcViewHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_PROC_VIEWS_H_
