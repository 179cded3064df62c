// gdb numbers signals in its own way on every system. Pure.
//
//   ToGdbSignal(SIGUSR1) == 30, FromGdbSignal(30) == SIGUSR1
#ifndef DUNEBOX_RUNTIME_DEBUGGER_SIGNAL_NUMBERS_H_
#define DUNEBOX_RUNTIME_DEBUGGER_SIGNAL_NUMBERS_H_

namespace dunebox::debugger {

// GDB_SIGNAL_UNKNOWN (143) for what gdb has no number for.
unsigned ToGdbSignal(int signal);
// 0 for what is no signal of Linux.
int FromGdbSignal(unsigned number);

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_SIGNAL_NUMBERS_H_
