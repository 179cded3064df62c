#include "runtime/loader/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

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

// Each symbol is looked for in all of them.
constexpr unsigned kMostSegments = 256;

}  // namespace

Symbols ReadSymbolsHere(int fd) {
  const std::optional<Elf64_Ehdr> header = ReadElfHeader(fd);
  if (!header || header->e_phnum > kMostSegments) return {};
  const auto segments =
      ReadTable<Elf64_Phdr>(fd, header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr));
  const auto sections =
      ReadTable<Elf64_Shdr>(fd, header->e_shoff, header->e_shnum * sizeof(Elf64_Shdr));
  const Elf64_Shdr* section = FindSection(sections, SHT_SYMTAB);
  if (section == nullptr) section = FindSection(sections, SHT_DYNSYM);
  if (section == nullptr || section->sh_link >= sections.size()) return {};
  const Elf64_Shdr& names = sections[section->sh_link];
  std::vector<Symbol> functions;
  for (const Elf64_Sym& symbol : ReadTable<Elf64_Sym>(fd, section->sh_offset, section->sh_size)) {
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_size == 0) continue;
    const std::optional<std::uint64_t> offset = FileOffset(segments, symbol.st_value);
    if (offset) functions.push_back({*offset, symbol.st_size, symbol.st_name});
  }
  std::ranges::stable_sort(functions, {}, &Symbol::offset);
  return Symbols(std::move(functions), ReadTable<char>(fd, names.sh_offset, names.sh_size));
}

Symbols ReadSymbols(const std::string& path) {
  Symbols result;
  hostcalls::WithSeparateDescriptors([&] {
    const runtime::FileDescriptor file(
        open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (file.valid()) result = ReadSymbolsHere(file.get());
  });
  return result;
}

std::string Symbols::NameOf(const Symbol& symbol) const {
  if (symbol.name >= names_.size()) return {};
  const char* const start = names_.data() + symbol.name;
  return std::string(start, strnlen(start, std::min(names_.size() - symbol.name, kLongestSymbol)));
}

std::optional<std::string> Symbols::NameAt(std::uint64_t file_offset) const {
  auto next = std::ranges::upper_bound(functions_, file_offset, {}, &Symbol::offset);
  if (next == functions_.begin()) return std::nullopt;
  const Symbol& symbol = *--next;
  const std::uint64_t distance = file_offset - symbol.offset;
  if (distance >= symbol.size) return std::nullopt;
  const std::string name = NameOf(symbol);
  return distance == 0 ? name : absl::StrFormat("%s+0x%x", name, distance);
}

std::optional<std::string> SymbolNames::NameOf(const std::string& path, std::uint64_t file_offset) {
  const auto [file, is_new] = files_.try_emplace(path);
  if (is_new) file->second = ReadSymbols(path);
  return file->second.NameAt(file_offset);
}

}  // namespace dunebox::loader
