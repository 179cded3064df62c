// A core file of the program that a signal ends: its threads with their registers, its memory,
// auxiliary vector and mapped files, as the kernel would write it, and nothing of the runtime. The
// kernel's own would have that in it, so it never writes one (hostcalls/services/limits.h).
//
// Written where RLIMIT_CORE, as the program sees it, is not 0: to the session's --core-file, or to
// "core" in the current directory, where the policy has to let the program create it.
#ifndef DUNEBOX_RUNTIME_PROCESS_CORE_FILE_H_
#define DUNEBOX_RUNTIME_PROCESS_CORE_FILE_H_

#include <signal.h>

#include "runtime/process/guest_thread.h"

namespace dunebox::process {

bool WantsCoreFile(Process& owner);

// `thread` is about to end its process because of `info`, its siblings are held. Says on standard error
// what came of it.
void WriteCoreFile(GuestThread& thread, const siginfo_t& info);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_CORE_FILE_H_
