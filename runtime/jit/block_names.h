// Names for translated code: where the guest's code lies that it was made of, and in which function.
//
//   guest:libc.so.6+0x3e682 exit+0x2      where a file is mapped
//   guest:0x401000                        elsewhere
#ifndef DUNEBOX_RUNTIME_JIT_BLOCK_NAMES_H_
#define DUNEBOX_RUNTIME_JIT_BLOCK_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "hostcalls/services/limits.h"
#include "runtime/loader/symbols.h"
#include "runtime/memory/address_space.h"

namespace dunebox::runtime {

// Where a guest address lies in a mapped file.
struct FilePlace {
  std::string path;
  std::uint64_t offset;
};

// Nothing where no file is. Takes the address space's lock.
std::optional<FilePlace> FilePlaceOf(const memory::AddressSpace& space, std::uint64_t pc);

// The name without the function.
std::string PlaceName(const memory::AddressSpace& space, std::uint64_t pc);

// Used by one thread at a time.
class BlockNames {
 public:
  explicit BlockNames(hostcalls::VirtualLimits& limits) : limits_(limits) {}
  std::string NameOf(const std::optional<FilePlace>& place, std::uint64_t pc);

 private:
  hostcalls::VirtualLimits& limits_;
  loader::SymbolNames symbols_;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_BLOCK_NAMES_H_
