// The memory system calls of one guest, whatever is behind its addresses: AddressSpace, for mappings of the host's, and
// what keeps its pages in a page table of its own (sandbox/compartment/paged_space.h). With Linux's results.
//
//   hostcalls::SyscallResult at = calls.Map({.length = 4096, .prot = PROT_READ, .flags = MAP_PRIVATE|...});
#ifndef DUNEBOX_RUNTIME_MEMORY_MEMORY_CALLS_H_
#define DUNEBOX_RUNTIME_MEMORY_MEMORY_CALLS_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "hostcalls/result.h"
#include "hostcalls/services/low_descriptors.h"
#include "runtime/memory/vma_map.h"

namespace dunebox::memory {

struct MapRequest {
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  int prot = 0;
  int flags = 0;
  int fd = -1;
  std::uint64_t offset = 0;
  bool never_executable = false;  // Backing's, of the descriptor
  // Where the descriptor is one that the guest names: the engine makes none of its own meanwhile.
  hostcalls::LowDescriptors* low_descriptors = nullptr;
};

struct RemapRequest {
  std::uint64_t old_address = 0;
  std::uint64_t old_length = 0;
  std::uint64_t new_length = 0;
  int flags = 0;
  std::uint64_t new_address = 0;
};

class MemoryCalls {
 public:
  virtual hostcalls::SyscallResult Map(const MapRequest& request) = 0;
  virtual hostcalls::SyscallResult Unmap(std::uint64_t address, std::uint64_t length) = 0;
  virtual hostcalls::SyscallResult Protect(std::uint64_t address, std::uint64_t length, int prot) = 0;
  virtual hostcalls::SyscallResult Remap(const RemapRequest& request) = 0;
  virtual hostcalls::SyscallResult Advise(std::uint64_t address, std::uint64_t length, int advice) = 0;
  virtual hostcalls::SyscallResult Break(std::uint64_t address) = 0;

  // While it cannot change.
  virtual void LookAtMap(absl::FunctionRef<void(const VmaMap& map)> look) const = 0;

 protected:
  ~MemoryCalls() = default;
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_MEMORY_CALLS_H_
