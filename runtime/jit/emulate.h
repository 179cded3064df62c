// The few instructions that the runtime carries out for translated code: CPUID, the guest's GS
// base (under isolation `seg` FS base too), segment loads, far transfers.
#ifndef DUNEBOX_RUNTIME_JIT_EMULATE_H_
#define DUNEBOX_RUNTIME_JIT_EMULATE_H_

#include <cstdint>
#include <optional>

#include "hostcalls/memory/guest_memory.h"
#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/dispatch/context.h"
#include "libdune/x86/guest_cpuid.h"
#include "runtime/engine.h"

namespace dunebox::runtime {

// The guest's CPUID: the host's without what is hidden. Remembered, for the instruction costs an
// exit to the hypervisor on virtual machines.
dune::x86::CpuidResult GuestCpuid(std::uint32_t function, std::uint32_t index);

// Of such a leaf, the features that no guest has and those whose instructions the translator does not know.
void HideFromGuest(std::uint32_t function, std::uint32_t index, dune::x86::CpuidResult& result);

// Carries out the instruction at context.rip and moves on. A fault: the instruction has not
// happened.
std::optional<Fault> Emulate(const jit::Instruction& instruction, jit::Context& context,
                             const hostcalls::GuestMemory& memory);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_EMULATE_H_
