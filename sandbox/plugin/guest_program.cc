#include "sandbox/plugin/guest_program.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <utility>

#include "hostcalls/services/separate_descriptors.h"
#include "runtime/file_descriptor.h"

extern "C" {
extern const std::byte dunebox_guest_program[], dunebox_guest_program_end[];
}

namespace dunebox::plugin {
namespace {

absl::StatusOr<runtime::FileDescriptor> MakeFile() {
  runtime::FileDescriptor file(
      memfd_create("dunebox-plugin-host", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return absl::ErrnoToStatus(errno, "memfd_create");
  std::span bytes(dunebox_guest_program, dunebox_guest_program_end);
  while (!bytes.empty()) {
    const ssize_t written = write(file.get(), bytes.data(), bytes.size());
    if (written <= 0) return absl::ErrnoToStatus(errno, "cannot write the plugin host's program");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return file;
}

const absl::StatusOr<runtime::FileDescriptor>& File() {
  // Never destroyed: sandboxes may be reset while the process's statics are.
  static const auto& file = *new absl::StatusOr<runtime::FileDescriptor>(MakeFile());
  return file;
}

}  // namespace

absl::Status MakeGuestProgram() { return File().status(); }

absl::StatusOr<loader::Program> OpenGuestProgram(const GuestRange& window) {
  const absl::StatusOr<runtime::FileDescriptor>& file = File();
  if (!file.ok()) return file.status();
  const auto any = [](int, const std::string&) { return absl::OkStatus(); };
  absl::StatusOr<loader::Program> program =
      loader::OpenProgram(hostcalls::DescriptorPath(file->get()), {"plugin-host"}, window, any);
  if (program.ok()) program->path = "/plugin-host";
  return program;
}

}  // namespace dunebox::plugin
