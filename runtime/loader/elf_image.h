// What an ELF program asks to have mapped, parsed and judged before anything is
// mapped. It refuses a file that the kernel refuses, and one that is malformed
// or could not run: then the caller can still return an error to execve.
//
// It does not choose a load address, map, or open the interpreter. All addresses
// in an ElfImage are link-time addresses: for a position-independent image the
// load bias is added to each (modulo 2^64).
//
//   absl::StatusOr<ElfImage> image = ParseElf(FileBytes(fd, size), window);
//   if (!image.ok()) return CannotExecute(image.status());
#ifndef DUNEBOX_RUNTIME_LOADER_ELF_IMAGE_H_
#define DUNEBOX_RUNTIME_LOADER_ELF_IMAGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/memory/address.h"
#include "runtime/loader/byte_source.h"

namespace dunebox::loader {

enum class ElfKind {
  kFixed,                // ET_EXEC: loads at its link-time addresses.
  kPositionIndependent,  // ET_DYN: PIE, static-PIE, or an interpreter such as ld.so.
};

// One PT_LOAD with something in it. `file_size` <= `memory_size`, and the rest is zero-filled.
// When `file_size` > 0, `vaddr` and `file_offset` agree modulo the page size.
struct LoadSegment {
  std::uint64_t vaddr;
  std::uint64_t memory_size;
  std::uint64_t file_offset;
  std::uint64_t file_size;
  int protection;  // PROT_READ | PROT_WRITE | PROT_EXEC

  std::uint64_t end() const { return vaddr + memory_size; }
};

// Whole pages [start, end) of link-time addresses.
struct LinkSpan {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t size() const { return end - start; }
};

inline constexpr std::uint64_t kProgramHeaderSize = 56;  // AT_PHENT

struct ElfImage {
  ElfKind kind;
  std::uint64_t entry;
  // Where the program headers are mapped, for AT_PHDR. 0 when no segment holds them; the load
  // bias is added all the same, as the kernel does.
  std::uint64_t program_headers;
  std::uint16_t program_header_count;
  // Never empty; ascending, without a common byte. Neighbours may share a page: map in order, and
  // the later one decides its content and rights.
  std::vector<LoadSegment> segments;
  LinkSpan span;            // From the first segment's first page to the last one's end.
  std::uint64_t alignment;  // Of the load bias; a power of two, at least a page.
  std::string interpreter;  // Path of PT_INTERP; empty for a static program.
  bool is_stack_executable;
  bool has_tls;
};

// Parses a program (or an interpreter: then ignore `interpreter`) that is to run inside `window`.
// kFailedPrecondition: cannot be executed (ENOEXEC), and the message says why in one clause.
// kDataLoss: a read failed.
//
// More than the kernel it refuses: segments out of order or sharing a byte, alignments that are no
// power of two, two PT_INTERPs, an entry point outside every executable page, and a segment with
// a page wholly past the end of the file, which would be a SIGBUS later. As with the kernel, the
// part of a file's last page that lies past its end is zero, and a missing PT_GNU_STACK means a
// stack that is not executable.
absl::StatusOr<ElfImage> ParseElf(const ByteSource& source, const GuestRange& window);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_ELF_IMAGE_H_
