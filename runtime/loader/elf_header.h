// The two tables at the front of an ELF file, read and checked one by one: is
// this a 64-bit x86-64 program at all, and where are its program headers?
// What the program headers say is judged in elf_image.
//
//   absl::StatusOr<Elf64_Ehdr> header = ReadFileHeader(source);
//   if (header.ok()) auto program_headers = ReadProgramHeaders(source, *header);
#ifndef DUNEBOX_RUNTIME_LOADER_ELF_HEADER_H_
#define DUNEBOX_RUNTIME_LOADER_ELF_HEADER_H_

#include <elf.h>

#include <vector>

#include "absl/status/statusor.h"
#include "runtime/loader/byte_source.h"

namespace dunebox::loader {

// kFailedPrecondition (the kernel's ENOEXEC) names what the file is instead; kDataLoss: unreadable.
absl::StatusOr<Elf64_Ehdr> ReadFileHeader(const ByteSource& source);

// The kernel's limit: all program headers together in 64 KiB. [linux] load_elf_phdrs
inline constexpr std::uint64_t kMaxProgramHeaderBytes = 65536;

absl::StatusOr<std::vector<Elf64_Phdr>> ReadProgramHeaders(const ByteSource& source,
                                                           const Elf64_Ehdr& header);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_ELF_HEADER_H_
