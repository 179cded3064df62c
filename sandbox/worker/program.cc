#include "sandbox/worker/program.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/file_descriptor.h"
#include "sandbox/worker/file_behind.h"

extern "C" {
extern const std::byte dunebox_program_loader[], dunebox_program_loader_end[];
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

// At its beginning: where it lies in the host's file, or else in a copy.
absl::StatusOr<runtime::FileDescriptor> OpenImage(const char* name, std::span<const std::byte> bytes) {
  std::optional<FileBehind> found = OpenFileBehind(bytes);
  absl::StatusOr<runtime::FileDescriptor> file = found ? std::move(found->file) : MakeFile(name, bytes);
  const auto begin = static_cast<off_t>(found ? found->offset : 0);
  if (file.ok() && lseek(file->get(), begin, SEEK_SET) != begin) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read the executable ", name));
  }
  return file;
}

}  // namespace

absl::StatusOr<Executable> ExecutableOf(Program program) {
  using File = absl::StatusOr<runtime::FileDescriptor>;
  static const File& loader =
      *new File(MakeFile("dunebox-loader", {dunebox_program_loader, dunebox_program_loader_end}));
  if (!loader.ok()) return loader.status();
  const auto with = [](const File& image) -> absl::StatusOr<Executable> {
    if (!image.ok()) return image.status();
    return Executable{.loader = loader->get(), .image = image->get()};
  };
  if (program == Program::kBroker) {
    static const File& broker =
        *new File(OpenImage("dunebox-broker", {dunebox_broker_program, dunebox_broker_program_end}));
    return with(broker);
  }
  static const File& worker =
      *new File(OpenImage("dunebox-worker", {dunebox_worker_program, dunebox_worker_program_end}));
  return with(worker);
}

}  // namespace dunebox::worker
