// Names for places in ELF files, from their symbol tables: for perf and for people, so whatever is
// wrong with a file only means that it has no names. Files are read with a table of descriptors of
// their own, because they may be open in the program, too.
//
//   std::optional<std::string> name = symbols.NameOf("/usr/lib/libc.so.6", 0x28b62);  // "exit+0x2"
#ifndef DUNEBOX_RUNTIME_LOADER_SYMBOLS_H_
#define DUNEBOX_RUNTIME_LOADER_SYMBOLS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace dunebox::loader {

struct Symbol {
  std::uint64_t offset;  // in the file
  std::uint64_t size;
  std::string name;
};

// The functions of an ELF file for x86-64, by offset; empty when it is none.
std::vector<Symbol> ReadSymbols(const std::string& path);
// The same of an open file, by who has separate descriptors already.
std::vector<Symbol> ReadSymbolsHere(int fd);
// The function that the byte at this offset is in, and how far; nothing for any other byte.
std::optional<std::string> NameAt(const std::vector<Symbol>& symbols, std::uint64_t file_offset);

// Reads each file once. Not thread-safe.
class SymbolNames {
 public:
  std::optional<std::string> NameOf(const std::string& path, std::uint64_t file_offset);

 private:
  absl::flat_hash_map<std::string, std::vector<Symbol>> files_;
};

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_SYMBOLS_H_
