// The executables that are part of this library: so they always fit to it, nothing has to be found or installed, and
// nobody can put others in their place. What is executed is a small loader (program_loader.cc) in a memfd that is
// sealed against every change. It maps the executable from the file that this process has it from; where that
// cannot be had any more (the host has been replaced on the disk, sees other files by now, or lies on an overlay whose
// numbers are not those of its files), from a sealed copy.
//
//   absl::StatusOr<Executable> program = ExecutableOf(Program::kBroker);
#ifndef DUNEBOX_SANDBOX_WORKER_PROGRAM_H_
#define DUNEBOX_SANDBOX_WORKER_PROGRAM_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace dunebox::worker {

enum class Program : std::uint8_t {
  kBroker,  // fork server and brokers, which nearly every host process has: a small one
  kWorker,  // with the engines
};

// Descriptors that stay open as long as the process.
struct Executable {
  int loader;  // to be executed, with the number of the other as the last argument
  int image;
};
// kUnavailable: this machine has no memfds that can be executed.
absl::StatusOr<Executable> ExecutableOf(Program program);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_PROGRAM_H_
