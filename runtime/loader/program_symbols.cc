#include "runtime/loader/program_symbols.h"

#include <elf.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/loader/elf_header.h"

namespace dunebox::loader {
namespace {

// Entries of a table that lies in the file as a whole. `what`: its name in an error.
template <typename T>
absl::StatusOr<std::vector<T>> ReadWhole(const ByteSource& source, const char* what,
                                         std::uint64_t offset, std::uint64_t bytes) {
  if (offset > source.size || bytes > source.size - offset) {
    return absl::FailedPreconditionError(
        absl::StrFormat("its %s at 0x%x+0x%x is past the end of the file (0x%x bytes)", what, offset,
                        bytes, source.size));
  }
  if (bytes > kMostSymbolBytes || bytes % sizeof(T) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("its ", what, " has ", bytes, " bytes"));
  }
  std::vector<T> table(bytes / sizeof(T));
  if (!source.read(offset, std::as_writable_bytes(std::span(table)))) {
    return absl::DataLossError(absl::StrCat("its ", what, " cannot be read"));
  }
  return table;
}

absl::StatusOr<std::vector<Elf64_Shdr>> ReadSections(const ByteSource& source) {
  const absl::StatusOr<Elf64_Ehdr> header = ReadFileHeader(source);
  if (!header.ok()) return header.status();
  if (header->e_shoff == 0 || header->e_shnum == 0) return std::vector<Elf64_Shdr>();
  if (header->e_shentsize != sizeof(Elf64_Shdr)) {
    return absl::FailedPreconditionError(
        absl::StrCat("sections of ", header->e_shentsize, " bytes each instead of ", sizeof(Elf64_Shdr)));
  }
  return ReadWhole<Elf64_Shdr>(source, "table of sections", header->e_shoff,
                               std::uint64_t{header->e_shnum} * sizeof(Elf64_Shdr));
}

bool IsInSegment(const ElfImage& image, std::uint64_t address) {
  return std::ranges::any_of(image.segments, [address](const LoadSegment& segment) {
    return address >= segment.vaddr && address < segment.end();
  });
}

bool IsLocal(const Elf64_Sym& symbol) { return ELF64_ST_BIND(symbol.st_info) == STB_LOCAL; }

// Has it an address that somebody else may use? A local one without a type is a label.
bool IsPlace(const Elf64_Sym& symbol, const ElfImage& image) {
  switch (ELF64_ST_TYPE(symbol.st_info)) {
    case STT_NOTYPE:
      if (IsLocal(symbol)) return false;
      [[fallthrough]];
    case STT_OBJECT:
    case STT_FUNC:
    case STT_GNU_IFUNC:
      return symbol.st_shndx != SHN_UNDEF && symbol.st_shndx != SHN_ABS &&
             IsInSegment(image, symbol.st_value);
    default:
      return false;
  }
}

std::optional<std::string_view> NameIn(const std::vector<char>& names, std::uint32_t at) {
  if (at >= names.size()) return std::nullopt;
  const std::string_view rest(names.data() + at, names.size() - at);
  const std::size_t end = rest.find('\0');
  if (end == std::string_view::npos) return std::nullopt;
  return rest.substr(0, end);
}

// Appends what the first section of this type has.
absl::Status AddSymbols(const ByteSource& source, const std::vector<Elf64_Shdr>& sections,
                        std::uint32_t type, const ElfImage& image, ProgramSymbols& to) {
  const auto section = std::ranges::find(sections, type, &Elf64_Shdr::sh_type);
  if (section == sections.end()) return absl::OkStatus();
  if (section->sh_entsize != sizeof(Elf64_Sym)) {
    return absl::FailedPreconditionError(
        absl::StrCat("symbols of ", section->sh_entsize, " bytes each instead of ", sizeof(Elf64_Sym)));
  }
  if (section->sh_link >= sections.size() || sections[section->sh_link].sh_type != SHT_STRTAB) {
    return absl::FailedPreconditionError("a symbol table without a table of names");
  }
  const Elf64_Shdr& strings = sections[section->sh_link];
  const auto symbols =
      ReadWhole<Elf64_Sym>(source, "symbol table", section->sh_offset, section->sh_size);
  if (!symbols.ok()) return symbols.status();
  const auto names =
      ReadWhole<char>(source, "table of names", strings.sh_offset, strings.sh_size);
  if (!names.ok()) return names.status();
  for (const Elf64_Sym& symbol : *symbols) {
    if (!IsPlace(symbol, image)) continue;
    const std::optional<std::string_view> name = NameIn(*names, symbol.st_name);
    if (!name) return absl::FailedPreconditionError("a symbol whose name is not in the table of names");
    if (name->empty()) continue;
    // Several may share their ends: what is copied has a limit of its own.
    if (name->size() > kMostSymbolBytes - to.names.size()) {
      return absl::FailedPreconditionError("names that are longer than their table");
    }
    to.symbols.push_back({.address = symbol.st_value,
                          .name = static_cast<std::uint32_t>(to.names.size()),
                          .length = static_cast<std::uint32_t>(name->size()),
                          .is_indirect = ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC,
                          .is_local = IsLocal(symbol)});
    to.names.append(*name);
  }
  return absl::OkStatus();
}

// Of several with the same name the first that is not local; or none, where they are local and differ.
void KeepOneOfEach(ProgramSymbols& all) {
  const auto name = [&](const ProgramSymbol& symbol) {
    return std::pair(symbol.length, all.NameOf(symbol));
  };
  std::ranges::stable_sort(all.symbols, {}, [&](const ProgramSymbol& symbol) {
    return std::pair(name(symbol), symbol.is_local);
  });
  std::vector<ProgramSymbol> kept;
  for (auto next = all.symbols.begin(); next != all.symbols.end();) {
    const auto end = std::find_if(next, all.symbols.end(),
                                  [&](const ProgramSymbol& other) { return name(other) != name(*next); });
    const bool is_clear = !next->is_local || std::all_of(next, end, [&](const ProgramSymbol& other) {
      return other.address == next->address;
    });
    if (is_clear) kept.push_back(*next);
    next = end;
  }
  all.symbols = std::move(kept);
}

// Whether what it says of itself is that it is a program, as linkers mark one that could be loaded as a library.
absl::StatusOr<bool> SaysItIsAProgram(const ByteSource& source, const Elf64_Phdr& dynamic) {
  const absl::StatusOr<std::vector<Elf64_Dyn>> entries =
      ReadWhole<Elf64_Dyn>(source, "dynamic section", dynamic.p_offset, dynamic.p_filesz);
  if (!entries.ok()) return entries.status();
  for (const Elf64_Dyn& entry : *entries) {
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_FLAGS_1) return (entry.d_un.d_val & DF_1_PIE) != 0;
  }
  return false;
}

}  // namespace

absl::StatusOr<ElfUse> UseOf(const ByteSource& source) {
  const absl::StatusOr<Elf64_Ehdr> header = ReadFileHeader(source);
  if (!header.ok()) return header.status();
  const absl::StatusOr<std::vector<Elf64_Phdr>> segments = ReadProgramHeaders(source, *header);
  if (!segments.ok()) return segments.status();
  const auto find = [&](std::uint32_t type) {
    return std::ranges::find(*segments, type, &Elf64_Phdr::p_type);
  };
  if (header->e_type == ET_DYN) {
    const auto dynamic = find(PT_DYNAMIC);
    if (dynamic == segments->end()) return ElfUse::kLibrary;
    const absl::StatusOr<bool> is_program = SaysItIsAProgram(source, *dynamic);
    if (!is_program.ok()) return is_program.status();
    if (!*is_program) return ElfUse::kLibrary;
  }
  return find(PT_INTERP) == segments->end() ? ElfUse::kStaticProgram : ElfUse::kDynamicProgram;
}

const ProgramSymbol* ProgramSymbols::Find(std::string_view name) const {
  const auto found = std::ranges::partition_point(symbols, [&](const ProgramSymbol& symbol) {
    return std::pair(std::size_t{symbol.length}, NameOf(symbol)) < std::pair(name.size(), name);
  });
  return found != symbols.end() && NameOf(*found) == name ? &*found : nullptr;
}

absl::StatusOr<ProgramSymbols> ReadProgramSymbols(const ByteSource& source, const ElfImage& image) {
  const absl::StatusOr<std::vector<Elf64_Shdr>> sections = ReadSections(source);
  if (!sections.ok()) return sections.status();
  ProgramSymbols result;
  for (const std::uint32_t type : {std::uint32_t{SHT_SYMTAB}, std::uint32_t{SHT_DYNSYM}}) {
    absl::Status status = AddSymbols(source, *sections, type, image, result);
    if (!status.ok()) return status;
  }
  KeepOneOfEach(result);
  return result;
}

}  // namespace dunebox::loader
