#include "sandbox/plugin/gate_pages.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <span>

// Of guest/gates.S: never executed here.
extern "C" {
extern const std::byte dunebox_gate_ready[], dunebox_gate_return[], dunebox_gate_callbacks[], dunebox_gates_end[];
}

namespace dunebox::plugin {

absl::StatusOr<PluginTable> PutGates(memory::AddressSpace& space) {
  const std::span code(dunebox_gate_ready, dunebox_gates_end);
  const hostcalls::SyscallResult mapped = space.Map({.length = code.size(),
                                                     .prot = PROT_READ | PROT_WRITE,
                                                     .flags = MAP_PRIVATE | MAP_ANONYMOUS});
  const std::uint64_t address = mapped.ToRegister();
  if (!mapped.ok() || !space.memory().Write(address, code) ||
      !space.Protect(address, code.size(), PROT_READ | PROT_EXEC).ok()) {
    return absl::ResourceExhaustedError("no room for the ways out of the sandbox");
  }
  const auto place = [&](const std::byte* gate) {
    return address + static_cast<std::uint64_t>(gate - dunebox_gate_ready);
  };
  return PluginTable{.open_library = 0,
                     .find_symbol = 0,
                     .last_error = 0,
                     .make_thread = 0,
                     .ready_gate = place(dunebox_gate_ready),
                     .return_gate = place(dunebox_gate_return),
                     .callbacks = place(dunebox_gate_callbacks)};
}

}  // namespace dunebox::plugin
