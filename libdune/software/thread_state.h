// What the backend keeps for one thread: whether it has left, what handlers it runs, and the stack for them. A thread that a thread
// made is in without having been asked, and has no such stack until it calls Enter: its handlers run on its own.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_THREAD_STATE_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_THREAD_STATE_H_

#include "absl/status/status.h"

namespace dune::software {

// The calling thread. Its handlers' stack is 64 KiB above a guard page; the alternate stack that it had before is given
// back by LeaveThread and at its end.
absl::Status EnterThread();
void LeaveThread();
bool IsThreadIn();

// Whether a handler may begin on a frame at `stack`: not when four are running already. EndHandler after each that may.
// A handler that was left by siglongjmp does not count for long: its frame is below the next one's.
bool BeginHandler(const void* stack);
void EndHandler();

// Whether no signal comes to the calling thread until the handler that it runs has returned.
bool AreSignalsHeld();
void SetSignalsHeld(bool are_held);

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_THREAD_STATE_H_
