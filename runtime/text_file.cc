#include "runtime/text_file.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/file_descriptor.h"

namespace dunebox::runtime {
namespace {

absl::Status FileError(const std::string& path, int error) {
  const std::string text = path + ": " + strerror(error);
  if (error == ENOENT) return absl::NotFoundError(text);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(text);
  return absl::InternalError(text);
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return FileError(path, errno);
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t bytes = read(file.get(), buffer.data(), buffer.size());
    if (bytes < 0) return FileError(path, errno);
    if (bytes == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(bytes));
  }
}

std::string DirectoryFor(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace dunebox::runtime
