// The code sections of an ELF file, for tests that look at machine code as it is installed.
#ifndef DUNEBOX_TESTS_UNIT_ELF_CODE_H_
#define DUNEBOX_TESTS_UNIT_ELF_CODE_H_

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace dunebox::jit {

struct CodeSection {
  std::vector<std::uint8_t> bytes;
};

// None when `path` is no complete x86-64 ELF file or has no section headers.
inline std::vector<CodeSection> ReadCodeSections(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> image{std::istreambuf_iterator<char>(file), {}};
  Elf64_Ehdr header;
  if (image.size() < sizeof header) return {};
  std::memcpy(&header, image.data(), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != EM_X86_64 ||
      header.e_ident[EI_CLASS] != ELFCLASS64) {
    return {};
  }
  std::vector<CodeSection> sections;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    const std::uint64_t at = header.e_shoff + i * sizeof section;
    if (at > image.size() || image.size() - at < sizeof section) return {};
    std::memcpy(&section, image.data() + at, sizeof section);
    if ((section.sh_flags & SHF_EXECINSTR) == 0 || section.sh_type != SHT_PROGBITS) continue;
    if (section.sh_offset > image.size() || image.size() - section.sh_offset < section.sh_size) {
      continue;
    }
    const auto start = image.begin() + static_cast<std::ptrdiff_t>(section.sh_offset);
    sections.push_back(
        {std::vector<std::uint8_t>(start, start + static_cast<std::ptrdiff_t>(section.sh_size))});
  }
  return sections;
}

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_UNIT_ELF_CODE_H_
