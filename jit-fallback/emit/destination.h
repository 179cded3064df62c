// Which general registers an instruction leaves as they are, from its encoding alone.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_DESTINATION_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_DESTINATION_H_

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/emit/assembler.h"

namespace dunebox::jit {

// Conservative: false only where the register is surely as before.
bool MayWrite(const Instruction& instruction, Reg reg);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_DESTINATION_H_
