// The session's file rules, asked about objects that are already held: nothing here depends on a
// path of the guest's that could lead elsewhere a moment later.
//
// What decides is the kernel's own name for what a pinned descriptor (pinned_path.h) holds, so
// links, ".." and magic links make no difference. A name that is to be made or removed is judged
// as a component of its pinned parent. Three things keep that answer true while siblings move
// directories about: no rename and no hard link may give an object other rights than it had, no
// tree with rules below it can be moved, and what a rule names cannot be renamed from under it.
//
// Of procfs, the entries of the calling process may be looked up and read whatever the rules say
// (proc_rules.inc has the last word); other processes are not there. An object without a name in
// any directory (a pipe, a memfd, the file a program began with as its standard input) is only
// opened again, through /proc/self/fd/N, with rights that the caller's own descriptor N has.
//
// Every function is for callers with a guard that is asked; without one everything succeeds. In
// audit mode what would fail is reported and succeeds.
//
//   if (SyscallResult checked = RequireRights(caller, pinned.get(), kWriteFile); !checked.ok())
//     return checked;
#ifndef DUNEBOX_HOSTCALLS_SERVICES_FILE_RULES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_FILE_RULES_H_

#include <optional>
#include <string>
#include <string_view>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/memory/guest_memory.h"
#include "hostcalls/policy/rules.h"
#include "hostcalls/result.h"
#include "hostcalls/services/pinned_path.h"
#include "hostcalls/services/proc_files.h"

namespace dunebox::hostcalls {

// Are there file rules to ask?
inline bool HasFileRules(const Caller& caller) {
  return caller.guard != nullptr && !caller.guard->allows_all();
}

// The kernel's name for what a descriptor holds: "/etc/passwd", "pipe:[123]".
CopyResult<std::string> ObjectName(ReservedDescriptors reserved, int fd);
CopyResult<std::string> ObjectName(const Caller& caller, int fd);
// What rules allow on an object with such a name. Memory of the program's own making (memfd) may
// be executed like any other memory of it.
policy::RightsAndOrigin RightsOnName(const policy::Rules& rules, std::string_view name);

// All of `needed` on the object; kNoRights: looking it up.
SyscallResult RequireRights(Caller& caller, int pinned, policy::FileRights needed);

// The same by a name that the kernel gave for an object.
SyscallResult RequireRightsOnName(Caller& caller, const std::string& name,
                                  policy::FileRights needed);

// The same for opening an object again. `descriptor` is the guest's number whose magic link led to
// it, or -1: rights which that descriptor has need no rule. `location` gets where in procfs the object is, where there
// are rules to be asked.
SyscallResult RequireReopen(Caller& caller, int pinned, policy::FileRights needed, int descriptor,
                            std::optional<ProcLocation>* location = nullptr);

// Making or removing `name` in the directory.
SyscallResult RequireEntry(Caller& caller, const PinnedParent& parent,
                           policy::FileRights needed = policy::kCreateFile);

// Moving what `from` names to `to`: create on both, the same rights at both places, and no rules
// below either. EXDEV where only the rights differ: mv then copies, which needs the right to read.
SyscallResult RequireMove(Caller& caller, const PinnedParent& from, const PinnedParent& to);

// Giving a pinned object the further name `to`, where it may have no rights that it does not have
// now. EXDEV as above.
SyscallResult RequireLink(Caller& caller, int pinned, const PinnedParent& to);

// After a lookup has failed with `error`: may its answer be told? EACCES where the deepest
// directory on the way that exists is one that may not be looked up. That is no denial to tell the
// user about: no rule would have made the call succeed.
SyscallResult TellFailure(Caller& caller, int directory, const std::string& path,
                          SyscallResult error);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_FILE_RULES_H_
