// The executable that workers run, as a file to be executed: part of this library, so that it
// always fits to it, nothing has to be found or installed, and nobody can put another one in its
// place. It lies in a memfd that is sealed against every change.
//
//   absl::StatusOr<int> program = WorkerProgram();
#ifndef DUNEBOX_SANDBOX_WORKER_PROGRAM_H_
#define DUNEBOX_SANDBOX_WORKER_PROGRAM_H_

#include "absl/status/statusor.h"

namespace dunebox::worker {

// A descriptor that stays open as long as the process. kUnavailable: this machine has no memfds
// that can be executed.
absl::StatusOr<int> WorkerProgram();

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_PROGRAM_H_
