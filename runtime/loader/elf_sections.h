// Tables and sections of an ELF file for x86-64, for what is good to know and not needed: a file that is not
// as it should be just has none. What a program is loaded by is another matter (elf_image.h).
//
//   std::optional<SectionPlace> frames = FindSectionHere(fd, ".eh_frame");
//
// By who has separate descriptors, as the program may have the file open, too.
#ifndef DUNEBOX_RUNTIME_LOADER_ELF_SECTIONS_H_
#define DUNEBOX_RUNTIME_LOADER_ELF_SECTIONS_H_

#include <elf.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace dunebox::loader {

// Files are not to be trusted: a table larger than this is not read.
inline constexpr std::uint64_t kLargestTable = std::uint64_t{64} << 20;

// Empty when it cannot be read as a whole.
template <typename T>
std::vector<T> ReadTable(int fd, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<T> table;
  if (bytes > kLargestTable) return table;
  table.resize(bytes / sizeof(T));
  const auto size = static_cast<ssize_t>(table.size() * sizeof(T));
  if (pread(fd, table.data(), static_cast<std::size_t>(size), static_cast<off_t>(offset)) != size) {
    table.clear();
  }
  return table;
}

std::optional<Elf64_Ehdr> ReadElfHeader(int fd);

// By the addresses that the file was linked for.
struct SectionPlace {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
};
std::optional<SectionPlace> FindSectionHere(int fd, std::string_view name);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_ELF_SECTIONS_H_
