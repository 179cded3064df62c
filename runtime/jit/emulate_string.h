// Instructions with operands in registers that they do not name, for when the base of a segment
// would have to be added to one: string instructions, XLAT, MASKMOVQ, MASKMOVDQU. All as
// Emulation in emulation.h says.
#ifndef DUNEBOX_RUNTIME_JIT_EMULATE_STRING_H_
#define DUNEBOX_RUNTIME_JIT_EMULATE_STRING_H_

#include <cstddef>
#include <optional>
#include <span>

#include "hostcalls/memory/guest_memory.h"
#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/context.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "runtime/engine.h"

namespace dunebox::runtime {

// The most elements at a time: a guest can be interrupted behind each.
inline constexpr unsigned kMostElements = 4096;

// MOVS, CMPS and LODS; the others have no segment. When elements are left RIP has not moved, and
// executing the instruction again does the rest; so it is with every element while the trap flag is
// set.
std::optional<Fault> EmulateString(const jit::Instruction& instruction, jit::Context& context,
                                   std::span<std::byte> extended_area,
                                   const jit::ExtendedLayout& layout,
                                   const hostcalls::GuestMemory& memory);

std::optional<Fault> EmulateXlat(const jit::Instruction& instruction, jit::Context& context,
                                 std::span<std::byte> extended_area,
                                 const jit::ExtendedLayout& layout,
                                 const hostcalls::GuestMemory& memory);

// Bytes that are not selected are neither written nor looked at.
std::optional<Fault> EmulateMaskMove(const jit::Instruction& instruction, jit::Context& context,
                                     std::span<std::byte> extended_area,
                                     const jit::ExtendedLayout& layout,
                                     const hostcalls::GuestMemory& memory);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_EMULATE_STRING_H_
