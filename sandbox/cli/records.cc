#include "sandbox/cli/records.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"

namespace dunebox::cli {

absl::StatusOr<runtime::FileDescriptor> MemoryForRecords(const char* name) {
  runtime::FileDescriptor file(memfd_create(name, MFD_CLOEXEC));
  const int flags = file.valid() ? fcntl(file.get(), F_GETFL) : -1;
  if (flags < 0 || fcntl(file.get(), F_SETFL, flags | O_APPEND) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a file in memory");
  }
  return file;
}

absl::StatusOr<std::string> ReadAll(int fd, std::string_view what) {
  std::string text;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t count = pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (count < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", std::string(what)));
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

absl::Status WriteAll(int fd, std::string_view text, std::string_view what) {
  while (!text.empty()) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", std::string(what)));
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return absl::OkStatus();
}

}  // namespace dunebox::cli
