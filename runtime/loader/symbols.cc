#include "runtime/loader/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/file_descriptor.h"
#include "runtime/loader/elf_sections.h"

namespace dunebox::loader {
namespace {

const Elf64_Shdr* FindSection(const std::vector<Elf64_Shdr>& sections, std::uint32_t type) {
  const auto found = std::ranges::find(sections, type, &Elf64_Shdr::sh_type);
  return found == sections.end() ? nullptr : &*found;
}

// Where the byte at an ELF address lies in the file.
std::optional<std::uint64_t> FileOffset(const std::vector<Elf64_Phdr>& segments,
                                        std::uint64_t address) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_LOAD && address - segment.p_vaddr < segment.p_filesz) {
      return address - segment.p_vaddr + segment.p_offset;
    }
  }
  return std::nullopt;
}

std::string TextAt(const std::vector<char>& strings, std::uint32_t at) {
  if (at >= strings.size()) return {};
  return std::string(strings.data() + at, strnlen(strings.data() + at, strings.size() - at));
}

}  // namespace

std::vector<Symbol> ReadSymbolsHere(int fd) {
  std::vector<Symbol> result;
  const std::optional<Elf64_Ehdr> header = ReadElfHeader(fd);
  if (!header) return result;
  const auto segments =
      ReadTable<Elf64_Phdr>(fd, header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr));
  const auto sections =
      ReadTable<Elf64_Shdr>(fd, header->e_shoff, header->e_shnum * sizeof(Elf64_Shdr));
  const Elf64_Shdr* section = FindSection(sections, SHT_SYMTAB);
  if (section == nullptr) section = FindSection(sections, SHT_DYNSYM);
  if (section == nullptr || section->sh_link >= sections.size()) return result;
  const Elf64_Shdr& names = sections[section->sh_link];
  const auto strings = ReadTable<char>(fd, names.sh_offset, names.sh_size);
  for (const Elf64_Sym& symbol : ReadTable<Elf64_Sym>(fd, section->sh_offset, section->sh_size)) {
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_size == 0) continue;
    const std::optional<std::uint64_t> offset = FileOffset(segments, symbol.st_value);
    if (offset) result.push_back({*offset, symbol.st_size, TextAt(strings, symbol.st_name)});
  }
  std::ranges::stable_sort(result, {}, &Symbol::offset);
  return result;
}

std::vector<Symbol> ReadSymbols(const std::string& path) {
  std::vector<Symbol> result;
  hostcalls::WithSeparateDescriptors([&] {
    const runtime::FileDescriptor file(
        open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (file.valid()) result = ReadSymbolsHere(file.get());
  });
  return result;
}

std::optional<std::string> NameAt(const std::vector<Symbol>& symbols, std::uint64_t file_offset) {
  auto next = std::ranges::upper_bound(symbols, file_offset, {}, &Symbol::offset);
  if (next == symbols.begin()) return std::nullopt;
  const Symbol& symbol = *--next;
  const std::uint64_t distance = file_offset - symbol.offset;
  if (distance >= symbol.size) return std::nullopt;
  return distance == 0 ? symbol.name : absl::StrFormat("%s+0x%x", symbol.name, distance);
}

std::optional<std::string> SymbolNames::NameOf(const std::string& path, std::uint64_t file_offset) {
  const auto [file, is_new] = files_.try_emplace(path);
  if (is_new) file->second = ReadSymbols(path);
  return NameAt(file->second, file_offset);
}

}  // namespace dunebox::loader
