// Which general registers an instruction leaves as they are, from its encoding alone.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_DESTINATION_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_DESTINATION_H_

#include <cstdint>

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/emit/assembler.h"

namespace dunebox::jit {

// Conservative: what is not in it is surely as before. A bit a register, by its number.
std::uint16_t WrittenBy(const Instruction& instruction);
bool MayWrite(const Instruction& instruction, Reg reg);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_DESTINATION_H_
