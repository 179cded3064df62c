// The code sections of an ELF file, for tests that look at machine code as it is installed.
#ifndef DUNEBOX_TESTS_UNIT_ELF_CODE_H_
#define DUNEBOX_TESTS_UNIT_ELF_CODE_H_

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace dunebox::jit {

struct CodeSection {
  std::vector<std::uint8_t> bytes;
};

// None when `path` is no complete x86-64 ELF file or has no section headers.
inline std::vector<CodeSection> ReadCodeSections(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header;
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header)) return {};
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != EM_X86_64 ||
      header.e_ident[EI_CLASS] != ELFCLASS64) {
    return {};
  }
  std::vector<Elf64_Shdr> headers(header.e_shnum);
  file.seekg(static_cast<std::streamoff>(header.e_shoff));
  for (Elf64_Shdr& section : headers) {
    if (!file.read(reinterpret_cast<char*>(&section), sizeof section)) return {};
  }
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::uint64_t>(file.tellg());
  std::vector<CodeSection> sections;
  for (const Elf64_Shdr& section : headers) {
    if ((section.sh_flags & SHF_EXECINSTR) == 0 || section.sh_type != SHT_PROGBITS) continue;
    if (section.sh_offset > size || size - section.sh_offset < section.sh_size) continue;
    CodeSection code;
    code.bytes.resize(section.sh_size);
    file.seekg(static_cast<std::streamoff>(section.sh_offset));
    if (file.read(reinterpret_cast<char*>(code.bytes.data()),
                  static_cast<std::streamsize>(section.sh_size))) {
      sections.push_back(std::move(code));
    }
  }
  return sections;
}

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_UNIT_ELF_CODE_H_
