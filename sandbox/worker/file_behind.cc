#include "sandbox/worker/file_behind.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "runtime/text_file.h"

namespace dunebox::worker {
namespace {

// Two numbers in hexadecimal digits with a sign between them.
bool ReadPair(absl::string_view text, char sign, std::uint64_t& first, std::uint64_t& second) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(sign, 1));
  return absl::SimpleHexAtoi(parts.first, &first) && absl::SimpleHexAtoi(parts.second, &second);
}

}  // namespace

std::optional<FileMapping> FileMappingAt(std::string_view maps, std::uint64_t address, std::uint64_t size) {
  for (const absl::string_view line : absl::StrSplit(absl::string_view(maps.data(), maps.size()), '\n')) {
    // Addresses, rights, offset, device, inode; behind spaces the path, which may have some, too.
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(' ', 5));
    std::uint64_t start = 0, end = 0;
    if (fields.size() != 6 || !ReadPair(fields[0], '-', start, end) || address < start || address >= end) continue;
    FileMapping found{};
    std::uint64_t major_number = 0, minor_number = 0;
    const absl::string_view path = absl::StripLeadingAsciiWhitespace(fields[5]);
    if (size > end - address || fields[1].size() != 4 || fields[1][1] != '-' ||
        !absl::SimpleHexAtoi(fields[2], &found.offset) || !ReadPair(fields[3], ':', major_number, minor_number) ||
        !absl::SimpleAtoi(fields[4], &found.inode) || path.empty() || path.front() != '/') {
      return std::nullopt;
    }
    found.offset += address - start;
    found.device = makedev(static_cast<unsigned>(major_number), static_cast<unsigned>(minor_number));
    found.path = std::string(path);
    return found;
  }
  return std::nullopt;
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
