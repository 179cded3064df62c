// The memory that an instruction is about to access, operands that it does not name included.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_MEMORY_ACCESSES_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_MEMORY_ACCESSES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/operand_address.h"

namespace dunebox::jit {

struct MemoryAccess {
  std::uint64_t address;
  // 0: not known, see OperandSize. Of masked operands all, of repeated strings one element, of ENTER the frame pointer
  // alone.
  unsigned size;
  bool reads, writes;
  bool is_stack;  // by the stack segment
};

// In the order in which the processor makes them, more or less.
struct MemoryAccesses {
  std::array<MemoryAccess, 8> list;
  std::size_t count = 0;
  void Add(const MemoryAccess& access) { list[count++] = access; }
  std::span<const MemoryAccess> all() const { return std::span(list).first(count); }
};

// `bytes` are all of the instruction, which is at registers.rip. Not those of gathers, scatters and tiles, but the
// operand without its index.
MemoryAccesses MemoryAccessesOf(const Instruction& instruction, std::span<const std::uint8_t> bytes,
                                const AddressRegisters& registers);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_MEMORY_ACCESSES_H_
