#include "runtime/loader/elf_image.h"

#include <elf.h>
#include <linux/limits.h>
#include <sys/mman.h>

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/loader/elf_header.h"

namespace dunebox::loader {
namespace {

static_assert(sizeof(Elf64_Phdr) == kProgramHeaderSize);

// Link-time addresses end below the kernel's TASK_SIZE whatever the bias will be. [linux]
constexpr std::uint64_t kTaskSize = (std::uint64_t{1} << 47) - kPageSize;

std::string Hex(std::uint64_t value) { return absl::StrCat("0x", absl::Hex(value)); }

std::string HexRange(std::uint64_t start, std::uint64_t size) {
  return absl::StrCat(Hex(start), "+", Hex(size));
}

bool IsPowerOfTwoOrZero(std::uint64_t value) { return (value & (value - 1)) == 0; }

int ProtectionOf(std::uint32_t flags) {
  return ((flags & PF_R) != 0 ? PROT_READ : 0) | ((flags & PF_W) != 0 ? PROT_WRITE : 0) |
         ((flags & PF_X) != 0 ? PROT_EXEC : 0);
}

// Collects one ElfImage from program headers in file order.
class Parser {
 public:
  Parser(const ByteSource& source, const Elf64_Ehdr& header, const GuestRange& window)
      : source_(source), header_(header), window_(window) {
    image_.kind = header.e_type == ET_EXEC ? ElfKind::kFixed : ElfKind::kPositionIndependent;
    image_.entry = header.e_entry;
    image_.program_header_count = header.e_phnum;
    image_.alignment = kPageSize;
  }

  absl::Status Add(std::size_t index, const Elf64_Phdr& phdr);
  absl::StatusOr<ElfImage> Finish() &&;

 private:
  absl::Status AddLoad(std::size_t index, const Elf64_Phdr& phdr);
  absl::Status CheckSizes(std::size_t index, const Elf64_Phdr& phdr) const;
  absl::Status CheckFileRange(std::size_t index, const Elf64_Phdr& phdr) const;
  absl::Status CheckAddresses(std::size_t index, const Elf64_Phdr& phdr) const;
  absl::Status CheckOrder(std::size_t index, const Elf64_Phdr& phdr) const;
  absl::Status AddInterpreter(std::size_t index, const Elf64_Phdr& phdr);
  absl::Status CheckPlacement() const;
  bool IsExecutable(std::uint64_t address) const;

  static absl::Status Refuse(std::size_t index, absl::string_view reason) {
    return absl::FailedPreconditionError(absl::StrCat("program header ", index, ": ", reason));
  }

  const ByteSource& source_;
  const Elf64_Ehdr& header_;
  const GuestRange window_;
  ElfImage image_ = {};
};

absl::Status Parser::Add(std::size_t index, const Elf64_Phdr& phdr) {
  switch (phdr.p_type) {
    case PT_LOAD:
      return AddLoad(index, phdr);
    case PT_INTERP:
      return AddInterpreter(index, phdr);
    case PT_GNU_STACK:
      image_.is_stack_executable = (phdr.p_flags & PF_X) != 0;
      return absl::OkStatus();
    case PT_TLS:
      image_.has_tls = true;
      return absl::OkStatus();
    default:
      return absl::OkStatus();  // Notes, RELRO and the like are for the program itself.
  }
}

absl::Status Parser::AddLoad(std::size_t index, const Elf64_Phdr& phdr) {
  if (absl::Status status = CheckSizes(index, phdr); !status.ok()) return status;
  if (phdr.p_memsz == 0) return absl::OkStatus();  // Linkers leave empty ones behind.
  if (absl::Status status = CheckFileRange(index, phdr); !status.ok()) return status;
  if (absl::Status status = CheckAddresses(index, phdr); !status.ok()) return status;
  if (absl::Status status = CheckOrder(index, phdr); !status.ok()) return status;

  // The last segment that holds the table's start decides, as in the kernel.
  if (phdr.p_offset <= header_.e_phoff && header_.e_phoff - phdr.p_offset < phdr.p_filesz) {
    image_.program_headers = header_.e_phoff - phdr.p_offset + phdr.p_vaddr;
  }
  image_.alignment = std::max<std::uint64_t>(image_.alignment, phdr.p_align);
  image_.segments.push_back({.vaddr = phdr.p_vaddr,
                             .memory_size = phdr.p_memsz,
                             .file_offset = phdr.p_offset,
                             .file_size = phdr.p_filesz,
                             .protection = ProtectionOf(phdr.p_flags)});
  return absl::OkStatus();
}

absl::Status Parser::CheckSizes(std::size_t index, const Elf64_Phdr& phdr) const {
  if (phdr.p_filesz > phdr.p_memsz) {
    return Refuse(index, absl::StrCat("file size ", Hex(phdr.p_filesz),
                                      " is larger than memory size ", Hex(phdr.p_memsz)));
  }
  if (!IsPowerOfTwoOrZero(phdr.p_align)) {
    return Refuse(index, absl::StrCat("alignment ", Hex(phdr.p_align), " is not a power of two"));
  }
  return absl::OkStatus();
}

absl::Status Parser::CheckFileRange(std::size_t index, const Elf64_Phdr& phdr) const {
  if (phdr.p_filesz == 0) return absl::OkStatus();  // Nothing is mapped from the file.
  const std::uint64_t mappable = PageUp(source_.size);
  if (phdr.p_offset > mappable || phdr.p_filesz > mappable - phdr.p_offset) {
    return Refuse(index,
                  absl::StrCat("file range ", HexRange(phdr.p_offset, phdr.p_filesz),
                               " is past the end of the file (", Hex(source_.size), " bytes)"));
  }
  if ((phdr.p_offset - phdr.p_vaddr) % kPageSize != 0) {
    return Refuse(index, absl::StrCat("file offset ", Hex(phdr.p_offset), " and address ",
                                      Hex(phdr.p_vaddr), " differ within a page"));
  }
  return absl::OkStatus();
}

absl::Status Parser::CheckAddresses(std::size_t index, const Elf64_Phdr& phdr) const {
  const bool is_fixed = image_.kind == ElfKind::kFixed;
  const std::uint64_t lowest = is_fixed ? window_.start.value : 0;
  const std::uint64_t limit = is_fixed ? window_.end.value : kTaskSize;
  if (PageDown(phdr.p_vaddr) < lowest || phdr.p_vaddr > limit ||
      phdr.p_memsz > limit - phdr.p_vaddr) {
    return Refuse(
        index, absl::StrCat("memory range ", HexRange(phdr.p_vaddr, phdr.p_memsz),
                            " is outside the program's addresses ", Hex(lowest), "..", Hex(limit)));
  }
  return absl::OkStatus();
}

absl::Status Parser::CheckOrder(std::size_t index, const Elf64_Phdr& phdr) const {
  if (image_.segments.empty()) return absl::OkStatus();
  const LoadSegment& previous = image_.segments.back();
  if (phdr.p_vaddr >= previous.end()) return absl::OkStatus();
  const char* const fault =
      phdr.p_vaddr < previous.vaddr ? " is below its predecessor " : " overlaps its predecessor ";
  return Refuse(index, absl::StrCat("memory range ", HexRange(phdr.p_vaddr, phdr.p_memsz), fault,
                                    HexRange(previous.vaddr, previous.memory_size)));
}

absl::Status Parser::AddInterpreter(std::size_t index, const Elf64_Phdr& phdr) {
  if (!image_.interpreter.empty()) return Refuse(index, "a second interpreter path");
  if (phdr.p_filesz > PATH_MAX) {
    return Refuse(index, absl::StrCat("an interpreter path of ", phdr.p_filesz, " bytes"));
  }
  if (phdr.p_offset > source_.size || phdr.p_filesz > source_.size - phdr.p_offset) {
    return Refuse(index,
                  absl::StrCat("the interpreter path at ", HexRange(phdr.p_offset, phdr.p_filesz),
                               " is past the end of the file (", Hex(source_.size), " bytes)"));
  }
  std::string path(phdr.p_filesz, '\0');
  if (!source_.read(phdr.p_offset, std::as_writable_bytes(std::span(path)))) {
    return absl::DataLossError("the interpreter path cannot be read");
  }
  // An empty field is "empty" rather than "unterminated".
  if (path.empty() || path.front() == '\0') return Refuse(index, "an empty interpreter path");
  if (path.back() != '\0') return Refuse(index, "an unterminated interpreter path");
  path.resize(path.find('\0'));
  image_.interpreter = std::move(path);
  return absl::OkStatus();
}

bool Parser::IsExecutable(std::uint64_t address) const {
  // By pages, because rights are: an entry behind a segment's last byte still runs.
  return std::ranges::any_of(image_.segments, [address](const LoadSegment& segment) {
    return (segment.protection & PROT_EXEC) != 0 && PageDown(segment.vaddr) <= address &&
           address < PageUp(segment.end());
  });
}

// Is there any load bias that puts the whole image inside the window?
absl::Status Parser::CheckPlacement() const {
  if (image_.kind == ElfKind::kFixed) return absl::OkStatus();  // Each segment was checked.
  const std::uint64_t lowest = window_.start.value;
  const std::uint64_t misalignment = (image_.span.start - lowest) % image_.alignment;
  const std::uint64_t room = window_.size();
  if (misalignment > room || image_.span.size() > room - misalignment) {
    return absl::FailedPreconditionError(absl::StrCat(
        "an image of ", Hex(image_.span.size()), " bytes aligned to ", Hex(image_.alignment),
        " does not fit into the program's addresses ", Hex(lowest), "..", Hex(window_.end.value)));
  }
  return absl::OkStatus();
}

absl::StatusOr<ElfImage> Parser::Finish() && {
  if (image_.segments.empty()) {
    return absl::FailedPreconditionError("an ELF without a loadable segment");
  }
  image_.span = {.start = PageDown(image_.segments.front().vaddr),
                 .end = PageUp(image_.segments.back().end())};
  if (absl::Status status = CheckPlacement(); !status.ok()) return status;
  if (!IsExecutable(image_.entry)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the entry point ", Hex(image_.entry), " is not in an executable segment"));
  }
  return std::move(image_);
}

}  // namespace

absl::StatusOr<ElfImage> ParseElf(const ByteSource& source, const GuestRange& window) {
  absl::StatusOr<Elf64_Ehdr> header = ReadFileHeader(source);
  if (!header.ok()) return header.status();
  absl::StatusOr<std::vector<Elf64_Phdr>> phdrs = ReadProgramHeaders(source, *header);
  if (!phdrs.ok()) return phdrs.status();
  Parser parser(source, *header, window);
  for (std::size_t index = 0; index < phdrs->size(); ++index) {
    if (absl::Status status = parser.Add(index, (*phdrs)[index]); !status.ok()) return status;
  }
  return std::move(parser).Finish();
}

}  // namespace dunebox::loader
