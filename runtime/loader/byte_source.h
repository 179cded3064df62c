// What a parser reads from: a size and a way to read exact ranges. A file in
// production, a span of memory in tests and fuzzers.
//
// It owns nothing: the descriptor or the memory must outlive it.
//
//   absl::StatusOr<ElfImage> image = ParseElf(FileBytes(fd, stat.st_size), window);
#ifndef DUNEBOX_RUNTIME_LOADER_BYTE_SOURCE_H_
#define DUNEBOX_RUNTIME_LOADER_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace dunebox::loader {

struct ByteSource {
  std::uint64_t size = 0;
  // Fills all of `to` from `offset`, or returns false. Parsers ask only for ranges inside `size`,
  // so false means an I/O error or a file that shrank meanwhile.
  std::function<bool(std::uint64_t offset, std::span<std::byte> to)> read;
};

ByteSource MemoryBytes(std::span<const std::byte> bytes);

// Reads with pread, so the descriptor's position stays where it is.
ByteSource FileBytes(int fd, std::uint64_t size);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_BYTE_SOURCE_H_
