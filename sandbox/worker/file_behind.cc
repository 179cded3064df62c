#include "sandbox/worker/file_behind.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <vector>

#include "runtime/maps_line.h"
#include "runtime/text_file.h"

namespace dunebox::worker {
std::optional<FileMapping> FileMappingAt(std::string_view maps, std::uint64_t address, std::uint64_t size) {
  const std::vector<runtime::MapsLine> lines = runtime::ParseMaps(maps);
  const auto found = std::ranges::find_if(
      lines, [&](const runtime::MapsLine& line) { return line.start <= address && address < line.end; });
  const bool is_file_to_be_read = found != lines.end() && size <= found->end - address && found->rights[1] == '-' &&
                                  found->name.starts_with('/');
  if (!is_file_to_be_read) return std::nullopt;
  return FileMapping{.offset = found->offset + (address - found->start),
                     .device = found->device,
                     .inode = found->inode,
                     .path = std::string(found->name)};
}

std::optional<FileBehind> OpenFileBehind(std::span<const std::byte> bytes) {
  const absl::StatusOr<std::string> maps = runtime::ReadTextFile("/proc/self/maps");
  if (!maps.ok()) return std::nullopt;
  const std::optional<FileMapping> mapping =
      FileMappingAt(*maps, reinterpret_cast<std::uint64_t>(bytes.data()), bytes.size());
  if (!mapping) return std::nullopt;
  FileBehind result{.file = runtime::FileDescriptor(open(mapping->path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)),
                    .offset = mapping->offset};
  // It is still mapped, so nothing else can have its number.
  struct stat status {};
  if (!result.file.valid() || fstat(result.file.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_dev != mapping->device || status.st_ino != mapping->inode) {
    return std::nullopt;
  }
  return result;
}

}  // namespace dunebox::worker
