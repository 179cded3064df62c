#include "sandbox/worker/program.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>

#include "runtime/file_descriptor.h"

extern "C" {
extern const std::byte dunebox_worker_program[], dunebox_worker_program_end[];
}

namespace dunebox::worker {
namespace {

constexpr unsigned kExecutable = 0x10;  // MFD_EXEC, Linux 6.3; before, every memfd is

absl::StatusOr<runtime::FileDescriptor> MakeFile() {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  runtime::FileDescriptor file(memfd_create("dunebox-worker", kFlags | kExecutable));
  if (!file.valid() && errno == EINVAL) {
    file = runtime::FileDescriptor(memfd_create("dunebox-worker", kFlags));
  }
  if (!file.valid()) {
    return absl::UnavailableError(
        absl::ErrnoToStatus(errno, "no memory for the worker's executable").message());
  }
  std::span bytes(dunebox_worker_program, dunebox_worker_program_end);
  while (!bytes.empty()) {
    const ssize_t written = write(file.get(), bytes.data(), bytes.size());
    if (written <= 0) return absl::ErrnoToStatus(errno, "cannot write the worker's executable");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) !=
      0) {
    return absl::ErrnoToStatus(errno, "cannot seal the worker's executable");
  }
  return file;
}

}  // namespace

absl::StatusOr<int> WorkerProgram() {
  static const auto& file = *new absl::StatusOr<runtime::FileDescriptor>(MakeFile());
  if (!file.ok()) return file.status();
  return file->get();
}

}  // namespace dunebox::worker
