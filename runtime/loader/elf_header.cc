#include "runtime/loader/elf_header.h"

#include <cstring>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"

namespace dunebox::loader {
namespace {

struct MachineName {
  std::uint16_t machine;
  const char* name;
};

// The ones a user is likely to have at hand.
constexpr MachineName kMachineNames[] = {
    {EM_386, "i386"},        {EM_MIPS, "MIPS"},    {EM_PPC, "PowerPC"},
    {EM_PPC64, "PowerPC64"}, {EM_S390, "S/390"},   {EM_ARM, "ARM"},
    {EM_SPARCV9, "SPARC64"}, {EM_IA_64, "IA-64"},  {EM_X86_64, "x86-64"},
    {EM_AARCH64, "AArch64"}, {EM_RISCV, "RISC-V"}, {EM_BPF, "BPF"},
    {258, "LoongArch"},
};

std::string DescribeMachine(std::uint16_t machine) {
  for (const MachineName& known : kMachineNames) {
    if (known.machine == machine) return absl::StrCat(known.name, " (", machine, ")");
  }
  return absl::StrCat(machine);
}

std::string DescribeType(std::uint16_t type) {
  switch (type) {
    case ET_REL:
      return "an ELF object file, not a linked program";
    case ET_CORE:
      return "an ELF core dump, not a program";
    default:
      return absl::StrCat("an ELF file of type ", type, ", not a program");
  }
}

absl::Status CheckIdentity(const Elf64_Ehdr& header) {
  if (header.e_ident[EI_CLASS] == ELFCLASS32) {
    // e_machine lies at the same place in both classes.
    const std::string machine = DescribeMachine(header.e_machine);
    return absl::FailedPreconditionError(absl::StrCat("a 32-bit ELF for machine ", machine));
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64) {
    return absl::FailedPreconditionError(
        absl::StrCat("an ELF of unknown class ", header.e_ident[EI_CLASS]));
  }
  if (header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return absl::FailedPreconditionError("an ELF that is not little-endian");
  }
  if (header.e_machine != EM_X86_64) {
    const std::string machine = DescribeMachine(header.e_machine);
    return absl::FailedPreconditionError(absl::StrCat("an ELF for machine ", machine));
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return absl::FailedPreconditionError(DescribeType(header.e_type));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Elf64_Ehdr> ReadFileHeader(const ByteSource& source) {
  Elf64_Ehdr header = {};
  if (source.size < SELFMAG) return absl::FailedPreconditionError("not an ELF file");
  // A short file is read as far as it goes: its magic decides which of two things is said.
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(&header, 1));
  const bool is_whole = source.size >= bytes.size();
  if (!source.read(0, is_whole ? bytes : bytes.first(source.size))) {
    return absl::DataLossError("the ELF header cannot be read");
  }
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return absl::FailedPreconditionError("not an ELF file");
  }
  if (!is_whole) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a truncated ELF: ", source.size, " bytes of a ", bytes.size(), "-byte header"));
  }
  if (absl::Status status = CheckIdentity(header); !status.ok()) return status;
  return header;
}

absl::StatusOr<std::vector<Elf64_Phdr>> ReadProgramHeaders(const ByteSource& source,
                                                           const Elf64_Ehdr& header) {
  if (header.e_phnum == 0) return absl::FailedPreconditionError("an ELF without program headers");
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "program headers of ", header.e_phentsize, " bytes each instead of ", sizeof(Elf64_Phdr)));
  }
  const std::uint64_t table_size = std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (table_size > kMaxProgramHeaderBytes) {
    return absl::FailedPreconditionError(
        absl::StrCat(header.e_phnum, " program headers exceed ", kMaxProgramHeaderBytes, " bytes"));
  }
  if (header.e_phoff > source.size || table_size > source.size - header.e_phoff) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the program headers at 0x", absl::Hex(header.e_phoff), "+0x", absl::Hex(table_size),
        " are past the end of the file (0x", absl::Hex(source.size), " bytes)"));
  }
  std::vector<Elf64_Phdr> table(header.e_phnum);
  if (!source.read(header.e_phoff, std::as_writable_bytes(std::span(table)))) {
    return absl::DataLossError("the program headers cannot be read");
  }
  return table;
}

}  // namespace dunebox::loader
