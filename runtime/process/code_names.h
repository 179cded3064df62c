// What a place in a program's code is called: where in which file, and the function.
//
//   CodeNames names(thread);
//   names.TextAt(0x7f12a4d14a7e);   // "0x7f12a4d14a7e libc.so.6+0x114a7e (openat64+0x2e)"
//
// Names of functions come from the files' symbol tables. They are told of files alone that are still those
// that were mapped, and that the program may read itself: so nobody learns what it could not have known.
#ifndef DUNEBOX_RUNTIME_PROCESS_CODE_NAMES_H_
#define DUNEBOX_RUNTIME_PROCESS_CODE_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "runtime/loader/elf_sections.h"
#include "runtime/loader/symbols.h"
#include "runtime/memory/vma_map.h"

namespace dunebox::process {

class GuestThread;

class CodeNames {
 public:
  explicit CodeNames(GuestThread& thread) : thread_(thread) {}
  CodeNames(const CodeNames&) = delete;
  CodeNames& operator=(const CodeNames&) = delete;

  std::string TextAt(std::uint64_t address);
  // Where the file that is mapped there has its .eh_frame, by its own addresses.
  std::optional<loader::SectionPlace> FrameSectionAt(std::uint64_t address);

 private:
  // What is known of a file: nothing when it is not there any more.
  struct Known {
    loader::Symbols symbols;
    std::optional<loader::SectionPlace> frames;
  };
  struct Place {
    memory::Backing file;
    std::uint64_t offset = 0;
  };
  Place PlaceOf(std::uint64_t address) const;
  bool MayTellOf(const memory::Backing& file, int fd) const;
  const Known& KnownOf(const memory::Backing& file);

  GuestThread& thread_;
  absl::flat_hash_map<std::string, Known> files_;  // that have been read
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_CODE_NAMES_H_
