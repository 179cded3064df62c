// What a call across the wall leaves in the guest's memory and takes from there, whatever runs the guest: the stack of a
// function that is called, a callback's arguments and result. All of it is the guest's: it may not be there.
//
//   std::uint64_t rsp = registers.rsp;
//   const StackFault fault = LayOutCall(memory, frame, return_gate, rsp);
//   if (fault) End(SIGSEGV, *fault);
#ifndef DUNEBOX_SANDBOX_PLUGIN_CALL_PROTOCOL_H_
#define DUNEBOX_SANDBOX_PLUGIN_CALL_PROTOCOL_H_

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/call.h"
#include "hostcalls/memory/guest_memory.h"
#include "sandbox/plugin/guest_engine.h"

namespace dunebox::plugin {

// Where the guest has no memory to be used so; nothing: all went well.
using StackFault = std::optional<std::uint64_t>;

// Below `stack_pointer`, which becomes the one that the function is entered with.
inline StackFault LayOutCall(const hostcalls::GuestMemory& memory, const internal::CallFrame& frame,
                             std::uint64_t return_gate, std::uint64_t& stack_pointer) {
  constexpr std::uint64_t kRedZone = 128;  // [abi §3.2.2]
  const std::uint64_t words = frame.stack_count;
  const std::uint64_t arguments =
      (stack_pointer - kRedZone - words * sizeof(std::uint64_t)) & ~std::uint64_t{15};
  const std::uint64_t stack = arguments - sizeof(std::uint64_t);
  if (!memory.WriteWord(stack, return_gate) ||
      (words != 0 && !memory.Write(arguments, std::as_bytes(std::span(frame.stack).first(words))))) {
    return stack;
  }
  stack_pointer = stack;
  return std::nullopt;
}
// The callback whose gate the registers stand behind; they become those that the thread goes on with. The status is
// the engine's.
absl::StatusOr<StackFault> ServeCallback(const hostcalls::GuestMemory& memory, GuestCpu& cpu,
                                         runtime::Registers& registers, const internal::Callback& callback);
// Of a function that has returned. The status is the engine's.
absl::StatusOr<internal::CallResult> ResultOfCall(GuestCpu& cpu, const internal::CallFrame& frame,
                                                  const GuestCpu::Returned& returned);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_CALL_PROTOCOL_H_
