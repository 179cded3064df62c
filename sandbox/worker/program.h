// The executables that are part of this library, each as a file to be executed: so they always fit to it,
// nothing has to be found or installed, and nobody can put others in their place. They lie in memfds
// that are sealed against every change.
//
//   absl::StatusOr<int> program = ExecutableOf(Program::kBroker);
#ifndef DUNEBOX_SANDBOX_WORKER_PROGRAM_H_
#define DUNEBOX_SANDBOX_WORKER_PROGRAM_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace dunebox::worker {

enum class Program : std::uint8_t {
  kBroker,  // fork server and brokers, which nearly every host process has: a small one
  kWorker,  // with the engines
};

// A descriptor that stays open as long as the process. kUnavailable: this machine has no memfds
// that can be executed.
absl::StatusOr<int> ExecutableOf(Program program);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_PROGRAM_H_
