// The file that a part of this process's memory is mapped from, opened again: what is in the file there is in no
// need of a copy, where somebody else is to have it.
//
//   std::optional<FileBehind> found = OpenFileBehind(bytes);
//   if (found) pread(found->file.get(), to, bytes.size(), found->offset);
#ifndef DUNEBOX_SANDBOX_WORKER_FILE_BEHIND_H_
#define DUNEBOX_SANDBOX_WORKER_FILE_BEHIND_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/file_descriptor.h"

namespace dunebox::worker {

// A mapping of a file, as a line of /proc/self/maps has it. [proc(5)]
struct FileMapping {
  std::uint64_t offset;  // in the file, bytes
  std::uint64_t device;  // as stat(2) has it
  std::uint64_t inode;
  std::string path;
};
// Of the one that has all of [address, address + size) in it and can only be read or executed. Nothing: there is none, or
// its path is none any more. Pure.
std::optional<FileMapping> FileMappingAt(std::string_view maps, std::uint64_t address, std::uint64_t size);

struct FileBehind {
  runtime::FileDescriptor file;  // to be read
  std::uint64_t offset;          // of the bytes in it
};
// Nothing: the bytes lie in memory alone, in several files, or in one that cannot be opened or is not what the path
// leads to any more.
std::optional<FileBehind> OpenFileBehind(std::span<const std::byte> bytes);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_FILE_BEHIND_H_
