// The names of a program's functions and data, for who loads it to call into it; and whether a file is such a
// program at all. Parsed and judged as a whole, before anything is mapped: a table that is not as it should be is
// an error, not a program without names.
//
// Names come from .symtab, and behind it from .dynsym: whatever is left of them is found. Left out is what has no
// address in the program's segments. Local functions and data, which linkers also make of hidden ones, are found where
// there is one of that name: among several nobody could tell which is meant.
//
//   absl::StatusOr<ProgramSymbols> symbols = ReadProgramSymbols(FileBytes(fd, size), image);
//   const ProgramSymbol* const main = symbols->Find("main");
#ifndef DUNEBOX_RUNTIME_LOADER_PROGRAM_SYMBOLS_H_
#define DUNEBOX_RUNTIME_LOADER_PROGRAM_SYMBOLS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/loader/byte_source.h"
#include "runtime/loader/elf_image.h"

namespace dunebox::loader {

enum class ElfUse : unsigned char {
  kStaticProgram,   // ET_EXEC, or ET_DYN that says it is a program, without an interpreter
  kDynamicProgram,  // the same with one
  kLibrary,
};

// kFailedPrecondition: no ELF file for this machine, or one whose tables are not in it.
absl::StatusOr<ElfUse> UseOf(const ByteSource& source);

struct ProgramSymbol {
  std::uint64_t address = 0;  // as it was linked
  std::uint32_t name = 0;     // where it begins among the names
  std::uint32_t length = 0;
  bool is_indirect = false;   // a function that returns the address (STT_GNU_IFUNC)
  bool is_local = false;
};

// By length, then by what they are: no name twice.
struct ProgramSymbols {
  std::vector<ProgramSymbol> symbols;
  std::string names;

  std::string_view NameOf(const ProgramSymbol& symbol) const {
    return std::string_view(names).substr(symbol.name, symbol.length);
  }
  // Null: there is none.
  const ProgramSymbol* Find(std::string_view name) const;
};

// Of each of the tables and what they say at most so much is read.
inline constexpr std::uint64_t kMostSymbolBytes = std::uint64_t{64} << 20;

// kFailedPrecondition: a table that cannot be one. Empty where the file has none: it was stripped.
absl::StatusOr<ProgramSymbols> ReadProgramSymbols(const ByteSource& source, const ElfImage& image);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_PROGRAM_SYMBOLS_H_
