#include "libdune/loader/static_program.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace dune {
namespace {

constexpr std::uint64_t kLowest = 0x1'0000;
constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;
constexpr std::size_t kMostHeaders = 128;

absl::Status Bad(const char* why) { return absl::InvalidArgumentError(why); }

template <typename T>
bool Read(std::span<const std::byte> file, std::uint64_t offset, T& value) {
  if (offset > file.size() || sizeof(T) > file.size() - offset) return false;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return true;
}

Rights RightsOf(std::uint32_t flags) {
  const unsigned granted = ((flags & PF_R) != 0 ? 1u : 0u) | ((flags & PF_W) != 0 ? 3u : 0u) |
                           ((flags & PF_X) != 0 ? 5u : 0u);
  return static_cast<Rights>(granted);
}

absl::Status AddPart(std::span<const std::byte> file, const Elf64_Phdr& header, std::uint64_t bias,
                     std::uint64_t highest, StaticProgram& program) {
  if (header.p_filesz > header.p_memsz || header.p_memsz > kMostBytes ||
      header.p_vaddr > highest || header.p_offset > file.size() ||
      header.p_filesz > file.size() - header.p_offset) {
    return Bad("a segment is not in the file, or too large");
  }
  if (header.p_memsz == 0) return absl::OkStatus();
  const std::uint64_t begin = header.p_vaddr + bias, end = begin + header.p_memsz;
  if (begin < kLowest || end > highest) return Bad("a segment lies where no program may");
  if (program.pages.size() + header.p_memsz / kPageSize > kMostBytes / kPageSize) {
    return Bad("its segments are too large");
  }
  for (std::uint64_t page = begin & ~(kPageSize - 1); page < end; page += kPageSize) {
    Rights& rights = program.pages[page];
    rights = static_cast<Rights>(static_cast<unsigned>(rights) |
                                 static_cast<unsigned>(RightsOf(header.p_flags)));
  }
  program.parts.push_back({begin, file.subspan(header.p_offset, header.p_filesz)});
  program.end = std::max<std::uintptr_t>(program.end, (end + kPageSize - 1) & ~(kPageSize - 1));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StaticProgram> ParseStaticProgram(std::span<const std::byte> file,
                                                 const UserPlaces& places) {
  Elf64_Ehdr elf;
  if (!Read(file, 0, elf) || std::memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
      elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_ident[EI_DATA] != ELFDATA2LSB ||
      elf.e_machine != EM_X86_64 || (elf.e_type != ET_EXEC && elf.e_type != ET_DYN) ||
      elf.e_phentsize != sizeof(Elf64_Phdr) || elf.e_phnum > kMostHeaders) {
    return Bad("no 64-bit ELF program for x86");
  }
  const std::uint64_t bias = elf.e_type == ET_DYN ? places.bias : 0;
  StaticProgram program;
  program.header_count = elf.e_phnum;
  for (unsigned index = 0; index < elf.e_phnum; ++index) {
    Elf64_Phdr header;
    if (!Read(file, elf.e_phoff + index * sizeof(header), header)) {
      return Bad("the program headers are not in the file");
    }
    if (header.p_type == PT_INTERP) return Bad("it needs a dynamic linker");
    if (header.p_type != PT_LOAD) continue;
    if (absl::Status added = AddPart(file, header, bias, places.end, program); !added.ok()) return added;
    if (elf.e_phoff >= header.p_offset && elf.e_phoff - header.p_offset < header.p_filesz) {
      program.headers = header.p_vaddr + bias + (elf.e_phoff - header.p_offset);
    }
  }
  if (program.parts.empty()) return Bad("it has nothing to load");
  program.entry = elf.e_entry + bias;
  if (!program.pages.contains(program.entry & ~(kPageSize - 1))) {
    return Bad("its entry point is in no segment");
  }
  return program;
}

}  // namespace dune
