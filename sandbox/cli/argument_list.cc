#include "sandbox/cli/argument_list.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/file_descriptor.h"

namespace dunebox::cli {
namespace {

constexpr std::size_t kMostBytes = std::size_t{16} << 20;

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadArguments(int fd) {
  const runtime::FileDescriptor file(fd);
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t bytes = read(file.get(), buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read descriptor ", fd));
    if (bytes == 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(bytes));
    if (text.size() > kMostBytes) return absl::OutOfRangeError("more than 16 MiB of arguments");
  }
  if (text.empty()) return std::vector<std::string>();
  if (text.back() != '\0') return absl::InvalidArgumentError("the last argument has no NUL behind it");
  text.pop_back();
  return std::vector<std::string>(absl::StrSplit(text, '\0'));
}

}  // namespace dunebox::cli
