// Where an instruction's memory operand lies, from a thread's registers.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_OPERAND_ADDRESS_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_OPERAND_ADDRESS_H_

#include <cstdint>
#include <span>

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/context.h"

namespace dunebox::jit {

// What addresses are made of.
struct AddressRegisters {
  std::span<const std::uint64_t, 16> gpr;  // by number: RAX RCX RDX RBX RSP ...
  std::uint64_t rip, fs_base, gs_base;
};
inline AddressRegisters AddressRegistersOf(const Context& context) {
  return {context.gpr, context.rip, context.fs_base, context.gs_base};
}

// The explicit operand's address, with the base of its segment; of a bit string, that of the word
// with the bit. `bytes` are all of the instruction, which is at registers.rip. Of gathers and
// scatters, without the index. [intel/vol2 §2.1.5]
std::uint64_t OperandAddress(const Instruction& instruction, std::span<const std::uint8_t> bytes,
                             const AddressRegisters& registers);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_OPERAND_ADDRESS_H_
