// Where the port instruction began that ring 3 was allowed to execute (emulated KVM only; on
// hardware it is a plain #GP).
#ifndef DUNEBOX_RUNTIME_KVM_PORT_INSTRUCTION_H_
#define DUNEBOX_RUNTIME_KVM_PORT_INSTRUCTION_H_

#include <cstdint>

#include "hostcalls/memory/guest_memory.h"

namespace dunebox::kvm {

// KVM reports RIP behind a single OUT, at every other port instruction. The bytes before `rip`
// decide which it was; `rip` itself is returned when they are no OUT.
std::uint64_t PortInstructionStart(const hostcalls::GuestMemory& memory, std::uint64_t rip,
                                   bool out, std::uint16_t port);

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_PORT_INSTRUCTION_H_
