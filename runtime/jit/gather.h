// Gathers and scatters that the runtime carries out for translated code: the addresses of their
// elements cannot be confined beforehand.
#ifndef DUNEBOX_RUNTIME_JIT_GATHER_H_
#define DUNEBOX_RUNTIME_JIT_GATHER_H_

#include <cstddef>
#include <optional>
#include <span>

#include "hostcalls/memory/guest_memory.h"
#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/context.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "runtime/engine.h"

namespace dunebox::runtime {

// Carries out the instruction at context.rip (Operation::kGatherScatter) and moves on. A fault: the
// elements in front of the one at fault are done and their mask bits are clear; RIP has not moved,
// and executing the instruction again does the rest. Combinations of registers that the processor
// refuses do not get here: the decoder refuses them.
// `extended_area` is in XSAVE's standard format.
std::optional<Fault> EmulateGather(const jit::Instruction& instruction, jit::Context& context,
                                   std::span<std::byte> extended_area,
                                   const jit::ExtendedLayout& layout,
                                   const hostcalls::GuestMemory& memory);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_GATHER_H_
