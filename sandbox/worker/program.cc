#include "sandbox/worker/program.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>

#include "absl/strings/str_cat.h"
#include "runtime/file_descriptor.h"

extern "C" {
extern const std::byte dunebox_worker_program[], dunebox_worker_program_end[];
extern const std::byte dunebox_broker_program[], dunebox_broker_program_end[];
}

namespace dunebox::worker {
namespace {

constexpr unsigned kExecutable = 0x10;  // MFD_EXEC, Linux 6.3; before, every memfd is

absl::StatusOr<runtime::FileDescriptor> MakeFile(const char* name, std::span<const std::byte> bytes) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  runtime::FileDescriptor file(memfd_create(name, kFlags | kExecutable));
  if (!file.valid() && errno == EINVAL) {
    file = runtime::FileDescriptor(memfd_create(name, kFlags));
  }
  if (!file.valid()) {
    return absl::UnavailableError(
        absl::ErrnoToStatus(errno, absl::StrCat("no memory for the executable ", name)).message());
  }
  while (!bytes.empty()) {
    const ssize_t written = write(file.get(), bytes.data(), bytes.size());
    if (written <= 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write the executable ", name));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) !=
      0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot seal the executable ", name));
  }
  return file;
}

}  // namespace

absl::StatusOr<int> ExecutableOf(Program program) {
  using File = absl::StatusOr<runtime::FileDescriptor>;
  const auto number = [](const File& file) { return file.ok() ? absl::StatusOr<int>(file->get()) : file.status(); };
  if (program == Program::kBroker) {
    static const File& broker =
        *new File(MakeFile("dunebox-broker", {dunebox_broker_program, dunebox_broker_program_end}));
    return number(broker);
  }
  static const File& worker =
      *new File(MakeFile("dunebox-worker", {dunebox_worker_program, dunebox_worker_program_end}));
  return number(worker);
}

}  // namespace dunebox::worker
