// From a path of the guest's to the object it names, held by a descriptor that the guest cannot
// touch, and never one that the guest must not name.
//
// Pinning is an O_PATH open whose result is moved into the reserved range. Until it is there, a
// sibling thread can see it under an ordinary number. That does no harm, whatever it is:
//  - an O_PATH descriptor gives nothing but its name. What turns one into something usable is
//    open() of /proc/self/fd/N, which comes here again and is judged by what N is then. (execveat
//    runs programs only; every other call wants a usable descriptor.)
//  - the object is reached without magic links (RESOLVE_NO_MAGICLINKS), so it is never one that
//    only the runtime has, such as a memfd behind a reserved number: that would lose its place in
//    procfs on the way, and with it what tells us to refuse it.
//  - what a sibling puts there instead is its own; we judge what arrives in the reserved range.
// Where no sibling has the descriptor table (Caller::LoneThread) nobody can do any of that, and what is held briefly gets
// the highest number of the guest's instead, for which no limit has to be raised. While it is held nothing else is looked
// up, so no path of the guest's meets the number.
// Magic links are followed one at a time, by a walk that knows the (pinned) directory and the name
// of each: /proc/<pid>/fd/N of a reserved N is not there, /proc/<pid>/exe is the program of that
// guest (EACCES for a runtime without one).
//
//   CopyResult<ReservedFd> pinned = PinObject(caller, AT_FDCWD, path, {.flags = O_NOFOLLOW});
#ifndef DUNEBOX_HOSTCALLS_SERVICES_PINNED_PATH_H_
#define DUNEBOX_HOSTCALLS_SERVICES_PINNED_PATH_H_

#include <linux/openat2.h>

#include <cstdint>
#include <string>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"
#include "hostcalls/services/reserved_fd.h"

namespace dunebox::hostcalls {

struct PinOptions {
  std::uint64_t flags = 0;    // of O_NOFOLLOW and O_DIRECTORY
  std::uint64_t resolve = 0;  // as in open_how
  // Between its being held and its being let go, nothing else is looked up in the guest's name.
  bool is_brief = false;
  // Gets the number whose magic link, of the calling process, the path ended with.
  int* descriptor = nullptr;
};

// What `path` names. `directory` is the guest's, AT_FDCWD or a pinned one. Errors are the kernel's.
CopyResult<ReservedFd> PinObject(Caller& caller, int directory, const std::string& path,
                                 PinOptions options);

// The same for a call that only names the object: ENOENT also for the entries that procfs has for
// the runtime's descriptors. Without `resolve`.
CopyResult<ReservedFd> PinVisible(Caller& caller, int directory, const std::string& path,
                                  PinOptions options);

// What the guest's descriptor refers to, by a descriptor that gives no access.
CopyResult<ReservedFd> PinDescriptor(Caller& caller, int fd);

// Where `path` has its last component, whether that exists or not.
struct PinnedParent {
  ReservedFd directory;
  std::string name;
};
// With slashes at the end the last component is empty.
CopyResult<PinnedParent> PinParent(Caller& caller, int directory, const std::string& path,
                                   std::uint64_t resolve = 0);

// The text of the symbolic link `name` in a pinned directory; of the pinned link itself when
// `name` is empty.
CopyResult<std::string> ReadLinkText(Caller& caller, int directory, const std::string& name);

// openat2() as it is.
SyscallResult HostOpenAt2(Caller& caller, int directory, const std::string& path,
                          const open_how& how);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_PINNED_PATH_H_
