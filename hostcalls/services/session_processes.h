// Which processes belong to the session, and signals that reach no others.
//
// The session's processes are the descendants of one process, its root: the guardian, or the first
// process of a pid namespace. That is a subreaper, so they stay so whatever they do. procfs says
// who is whose parent; a step up is believed only when it still is the same after the next one was
// read, because a process keeps its parent for as long as that lives, and only then its number. To
// be signalled a process is held by a pidfd first: what is asked about and what gets the signal is
// the same process even when its number is another's by then.
//
// All of it happens with a copy of the descriptor table, so that the guest has no part in it. The
// guest's own process is not asked about. What has no pidfd (limits, priorities, ownership of a
// descriptor's signals) is asked about just before the call: a number that goes to a stranger in
// between is not noticed.
//
//   if (SyscallResult own = RequireSessionProcess(caller, "limit", process); !own.ok()) return own;
//   return SignalProcess(caller, process, {.signal = SIGTERM});
#ifndef DUNEBOX_HOSTCALLS_SERVICES_SESSION_PROCESSES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_SESSION_PROCESSES_H_

#include <signal.h>
#include <sys/types.h>

#include <string_view>
#include <optional>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/result.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

// Do the session's rules keep the caller among its own processes?
inline bool StaysInSession(const Caller& caller) {
  return caller.guard != nullptr && !caller.guard->allows_all() &&
         !caller.guard->rules().signal_outside;
}

// Success for 0, the caller's own threads, and processes and threads of the session. Otherwise the
// denial of `action` is told and it is EPERM; ESRCH when there is no such process.
SyscallResult RequireSessionProcess(Caller& caller, std::string_view action, pid_t process);

// The same for one who is to get signals about a descriptor: a negative number is a process group,
// whose leader has to be one of the session's.
SyscallResult RequireSessionOwner(Caller& caller, std::string_view action, pid_t owner);

// For a process group that is to have the terminal: as above, the caller's own, or the one that the
// session was started in, which gets it back.
SyscallResult RequireForegroundGroup(Caller& caller, pid_t group);

// What a forwarded call's row in process_targets.inc says about its arguments.
SyscallResult RequireSessionTargets(Caller& caller, const Row& row,
                                    const ArgumentValues& arguments);

struct SignalToSend {
  int signal = 0;
  const siginfo_t* info = nullptr;  // as it is; null: what kill() and tgkill() say
};

// To another process, if it is one of the session's.
SyscallResult SignalProcess(Caller& caller, pid_t process, const SignalToSend& signal);
// To a thread of another process. `process` 0: of whichever.
SyscallResult SignalThread(Caller& caller, pid_t process, pid_t thread, const SignalToSend& signal);
// To whom a descriptor of the guest's holds.
SyscallResult SignalHeld(Caller& caller, int descriptor, const SignalToSend& signal,
                         unsigned flags);
// To all of the session but the caller's own process; with a group, to those in it. Group 0 is the
// one that the session was started in, where a pid namespace has no number for that.
SyscallResult SignalSession(Caller& caller, std::optional<pid_t> group, const SignalToSend& signal);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_SESSION_PROCESSES_H_
