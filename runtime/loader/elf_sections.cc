#include "runtime/loader/elf_sections.h"

#include <cstring>

namespace dunebox::loader {

std::optional<Elf64_Ehdr> ReadElfHeader(int fd) {
  const auto headers = ReadTable<Elf64_Ehdr>(fd, 0, sizeof(Elf64_Ehdr));
  if (headers.empty() || std::memcmp(headers[0].e_ident, ELFMAG, SELFMAG) != 0 ||
      headers[0].e_ident[EI_CLASS] != ELFCLASS64 || headers[0].e_machine != EM_X86_64) {
    return std::nullopt;
  }
  return headers[0];
}

std::optional<SectionPlace> FindSectionHere(int fd, std::string_view name) {
  const std::optional<Elf64_Ehdr> header = ReadElfHeader(fd);
  if (!header) return std::nullopt;
  const auto sections =
      ReadTable<Elf64_Shdr>(fd, header->e_shoff, header->e_shnum * sizeof(Elf64_Shdr));
  if (header->e_shstrndx >= sections.size()) return std::nullopt;
  const Elf64_Shdr& names = sections[header->e_shstrndx];
  const auto strings = ReadTable<char>(fd, names.sh_offset, names.sh_size);
  const std::string_view all(strings.data(), strings.size());
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_name >= all.size()) continue;
    const std::string_view rest = all.substr(section.sh_name);
    if (rest.substr(0, rest.find('\0')) == name) return SectionPlace{section.sh_addr, section.sh_size};
  }
  return std::nullopt;
}

}  // namespace dunebox::loader
