// What a parent may have ignored or blocked is as it was in the beginning: first of all in an
// executable.
#ifndef DUNEBOX_SANDBOX_WORKER_RESET_SIGNALS_H_
#define DUNEBOX_SANDBOX_WORKER_RESET_SIGNALS_H_

namespace dunebox::worker {

void ResetSignals();

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_RESET_SIGNALS_H_
