// What is left behind of a program that a signal ends as a crash: a core file, where one is wanted, and with --backtrace
// where it was, by names:
//
//   dunebox: [7132] crash: server --- SIGSEGV {si_code=SEGV_MAPERR, si_addr=0x8} ---
//   dunebox: [7132] crash: #0 0x55d5c6a4f151 server+0x1151 (parse+0x11)
//   dunebox: [7132] crash: #1 0x55d5c6a4f17e server+0x117e (main+0x1e)
//
// It is a view of hostile memory: read with checks, of bounded length, and nothing in it can reach a terminal but as text.
#ifndef DUNEBOX_RUNTIME_PROCESS_CRASH_H_
#define DUNEBOX_RUNTIME_PROCESS_CRASH_H_

#include <signal.h>

namespace dunebox::process {

class GuestThread;
class Process;

// Makes those signals come to us whose default action is a crash, if anything of one is wanted by now.
void TakeCrashSignals(Process& owner);

// `thread` is about to end its process because of `info`. Does not return in a thread whose sibling is
// at it already.
void OnDeath(GuestThread& thread, const siginfo_t& info);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_CRASH_H_
