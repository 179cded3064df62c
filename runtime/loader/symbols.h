// Names for places in ELF files, from their symbol tables: for perf and for people, so whatever is
// wrong with a file only means that it has no names. It may be a stranger's: what is kept of it is no
// larger than its tables are, and a name is cut where it becomes too long to be one. Files are read with
// a table of descriptors of their own, because they may be open in the program, too.
//
//   std::optional<std::string> name = symbols.NameOf("/usr/lib/libc.so.6", 0x28b62);  // "exit+0x2"
#ifndef DUNEBOX_RUNTIME_LOADER_SYMBOLS_H_
#define DUNEBOX_RUNTIME_LOADER_SYMBOLS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace dunebox::loader {

struct Symbol {
  std::uint64_t offset;  // in the file
  std::uint64_t size;
  std::uint32_t name;  // where it begins in the table of names
};

inline constexpr std::size_t kLongestSymbol = 4096;

// The functions of an ELF file, by offset.
class Symbols {
 public:
  Symbols() = default;
  Symbols(std::vector<Symbol> functions, std::vector<char> names)
      : functions_(std::move(functions)), names_(std::move(names)) {}
  bool empty() const { return functions_.empty(); }
  const std::vector<Symbol>& functions() const { return functions_; }
  std::string NameOf(const Symbol& symbol) const;
  // The function that the byte at this offset is in, and how far; nothing for any other byte.
  std::optional<std::string> NameAt(std::uint64_t file_offset) const;

 private:
  std::vector<Symbol> functions_;
  std::vector<char> names_;
};

// Of a file for x86-64; empty when it is none.
Symbols ReadSymbols(const std::string& path);
// The same of an open file, by who has separate descriptors already.
Symbols ReadSymbolsHere(int fd);

// Reads each file once. Not thread-safe.
class SymbolNames {
 public:
  std::optional<std::string> NameOf(const std::string& path, std::uint64_t file_offset);

 private:
  absl::flat_hash_map<std::string, Symbols> files_;
};

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_SYMBOLS_H_
