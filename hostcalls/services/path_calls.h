// The one place where the path of a forwarded call becomes what the kernel may look up.
//
// The guest's view of procfs is not the kernel's: /proc/<pid>/exe is the guest's program, and the
// runtime's descriptors are not there. open() has its own way (open.h); every other call that takes
// a path comes here, with a row in path_calls.inc. What is done depends on what the call does:
//
//  kLookedAt  The object is looked at first, by fstatat. Only when it may be one that the runtime
//             alone leads to (VirtualLimits::MayBeHidden), or the path has a reserved number in it,
//             is it pinned and the call made on what was pinned. A sibling that changes a link in
//             between learns something about the runtime's file, no more.
//  kChanged,  Always pinned (O_PATH, pinned_path.h) and changed through the pinned descriptor: no
//  kWritten,  race lets the call reach the runtime's executable or /dev/kvm. kWritten is refused
//  kLinked    (ETXTBSY) for the program that runs. kLinked is kNamed when no link is followed.
//  kNamed     The last name is created, removed or given to something else. In procfs nothing can
//             be; that the runtime's descriptors are not there is all there is to say.
//
// Under file rules (file_rules.h) nothing is left to the kernel's own lookup: objects are always
// pinned and asked about, names are made and removed in pinned directories, and so are the objects
// of descriptors that fchmod() and its like change.
//
// An empty path is about the descriptor, which has been checked. After a chroot, calls without a
// directory argument go to the kernel as they are, because /proc need not be there.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_PATH_CALLS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_PATH_CALLS_H_

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

// Makes the call of `row`. Its pointers are the host's or checked: PreparedArguments::values().
SyscallResult CallWithPaths(Caller& caller, const Row& row, const ArgumentValues& values);

// Has the row's argument a row in path_calls.inc? For the table's test.
bool IsPathArgument(const Row& row, int index);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_PATH_CALLS_H_
