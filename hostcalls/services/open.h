// open, openat, openat2, creat, chroot: the only calls that turn a path into a usable descriptor.
//
// What is promised: the guest never gets a usable descriptor of something in procfs that
// proc_rules.inc refuses (/proc/self/mem would be the runtime's memory), nor of anything behind a
// reserved number, however the path leads there and whatever its other threads do meanwhile.
//
//  1. The quick way, one host call: an absolute path is opened below a reserved descriptor of the
//     root directory, which is no procfs, with RESOLVE_NO_XDEV. The kernel itself then refuses to
//     leave the root's mount, so the result cannot be in procfs. Nothing in it can be replaced by
//     a sibling: the path is our copy, the descriptor is reserved. A path that does leave the
//     mount gives EXDEV, one with magic links ELOOP; both go the careful way.
//  2. The careful way: the object is pinned (O_PATH, pinned_path.h) under a reserved number, then
//     looked at, then reopened through /proc/thread-self/fd/N with the rights asked for. A sibling
//     cannot change what a reserved number refers to, so what is opened is what was looked at.
//     The pinned number is the only one in use then, so the guest gets the lowest free one. In a process of one thread
//     there is no sibling, and a number of the guest's own does as well.
//  3. O_CREAT on the careful way: what exists is opened as in 2, what does not is created with
//     O_EXCL, which never opens anything old; a race with other processes starts it again.
//  4. Under file rules (file_rules.h) everything goes the careful way, and the rules are asked about
//     the pinned object before it is reopened: what is refused is neither truncated nor, being a
//     FIFO or a device, opened at all. What is created is created in a pinned directory.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_OPEN_H_
#define DUNEBOX_HOSTCALLS_SERVICES_OPEN_H_

#include <linux/openat2.h>

#include <string>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

struct OpenRequest {
  int directory;
  std::string path;
  open_how how;  // what the kernel accepts: see HowFromFlags
};

// The descriptor, in the guest's range. For whoever opens files in the guest's name.
SyscallResult OpenForGuest(Caller& caller, const OpenRequest& request);

// open() and openat() ignore bits that openat2() refuses.
open_how HowFromFlags(std::uint64_t flags, std::uint64_t mode);

SyscallResult HandleOpen(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleOpenat(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleOpenat2(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleCreat(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleChroot(Caller& caller, const ArgumentValues& arguments);
void RegisterOpenHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_OPEN_H_
