// Which instructions the runtime carries out for translated code, and how.
#ifndef DUNEBOX_RUNTIME_JIT_EMULATION_H_
#define DUNEBOX_RUNTIME_JIT_EMULATION_H_

#include <cstddef>
#include <optional>
#include <span>

#include "hostcalls/memory/guest_memory.h"
#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/context.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "runtime/engine.h"

namespace dunebox::runtime {

// Carries out the instruction at context.rip, or as much of it as the CPU would before an
// exception or an interrupt: RIP has moved when all of it is done.
// `extended_area` is in XSAVE's standard format.
using Emulation = std::optional<Fault> (*)(const jit::Instruction& instruction,
                                           jit::Context& context,
                                           std::span<std::byte> extended_area,
                                           const jit::ExtendedLayout& layout,
                                           const hostcalls::GuestMemory& memory);

// Null: it has none, it always raises an exception. Some have one that are mostly copied, wherever
// the runtime can do without.
Emulation EmulationOf(const jit::Instruction& instruction);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_EMULATION_H_
