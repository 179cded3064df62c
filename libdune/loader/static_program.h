// A static ELF program (ET_EXEC or static-PIE) as bytes that nobody has to trust: what it asks to
// have mapped, judged before anything is. [abi, ELF-64]
//
//   absl::StatusOr<StaticProgram> program = ParseStaticProgram(file, places);
#ifndef DUNEBOX_LIBDUNE_LOADER_STATIC_PROGRAM_H_
#define DUNEBOX_LIBDUNE_LOADER_STATIC_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "dune/page_table.h"

namespace dune {

// Where a backend wants a program of ring 3's to be.
struct UserPlaces {
  std::uintptr_t bias;  // of a program that can lie anywhere
  std::uintptr_t end;   // nothing may lie above
  std::uintptr_t stack_top;
};

struct StaticProgram {
  struct Part {
    std::uintptr_t address;
    std::span<const std::byte> bytes;  // of the file
  };
  std::vector<Part> parts;
  std::map<std::uintptr_t, Rights> pages;  // of parts that share a page: all rights of both
  std::uintptr_t entry = 0;
  std::uintptr_t headers = 0;  // where the program headers are, 0: in no part
  std::size_t header_count = 0;
  std::uintptr_t end = 0;  // first page behind it
};

// kInvalidArgument says in a clause why it is no such program. The result refers to `file`.
absl::StatusOr<StaticProgram> ParseStaticProgram(std::span<const std::byte> file,
                                                 const UserPlaces& places);

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_LOADER_STATIC_PROGRAM_H_
