// Memory accesses of instructions that the runtime carries out: made as a whole, or the exception
// that the instruction raises.
#ifndef DUNEBOX_RUNTIME_JIT_GUEST_ACCESS_H_
#define DUNEBOX_RUNTIME_JIT_GUEST_ACCESS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "hostcalls/memory/guest_memory.h"
#include "runtime/engine.h"

namespace dunebox::runtime {

Fault FaultWithoutCode(dune::x86::Vector vector);

class GuestAccess {
 public:
  // `is_stack`: the operands are in the stack's segment, which has an exception of its own.
  GuestAccess(const hostcalls::GuestMemory& memory, bool is_stack)
      : memory_(memory), is_stack_(is_stack) {}

  // 1, 2, 4 or 8 bytes.
  std::optional<Fault> Load(std::uint64_t address, std::span<std::byte> to) const;
  std::optional<Fault> Store(std::uint64_t address, std::span<const std::byte> from) const;
  // Whether a store of any size up to a page could be made. Changes nothing.
  std::optional<Fault> CheckStore(std::uint64_t address, std::size_t size) const;

 private:
  std::optional<Fault> CheckCanonical(std::uint64_t address, std::size_t size) const;
  bool CanAccess(std::uint64_t address, bool is_store) const;
  Fault PageFault(std::uint64_t address, std::size_t size, bool is_store) const;

  const hostcalls::GuestMemory& memory_;
  const bool is_stack_;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_GUEST_ACCESS_H_
