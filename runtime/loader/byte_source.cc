#include "runtime/loader/byte_source.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace dunebox::loader {
namespace {

bool ReadMemory(std::span<const std::byte> bytes, std::uint64_t offset, std::span<std::byte> to) {
  if (offset > bytes.size() || to.size() > bytes.size() - offset) return false;
  std::ranges::copy(bytes.subspan(offset, to.size()), to.begin());
  return true;
}

bool ReadFile(int fd, std::uint64_t offset, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t count = pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return true;
}

}  // namespace

ByteSource MemoryBytes(std::span<const std::byte> bytes) {
  return {.size = bytes.size(), .read = [bytes](std::uint64_t offset, std::span<std::byte> to) {
            return ReadMemory(bytes, offset, to);
          }};
}

ByteSource FileBytes(int fd, std::uint64_t size) {
  return {.size = size, .read = [fd](std::uint64_t offset, std::span<std::byte> to) {
            return ReadFile(fd, offset, to);
          }};
}

}  // namespace dunebox::loader
