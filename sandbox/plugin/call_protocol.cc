#include "sandbox/plugin/call_protocol.h"

#include <span>

#include "sandbox/plugin/run_callback.h"

namespace dunebox::plugin {
absl::StatusOr<StackFault> ServeCallback(const hostcalls::GuestMemory& memory, GuestCpu& cpu,
                                         runtime::Registers& registers, const internal::Callback& callback) {
  internal::CallbackFrame frame;
  frame.integers = {registers.rdi, registers.rsi, registers.rdx,
                    registers.r10, registers.r8,  registers.r9};
  if (callback.uses_vectors) {
    const absl::StatusOr<Vectors> vectors = cpu.ReadVectors();
    if (!vectors.ok()) return vectors.status();
    frame.vectors = *vectors;
  }
  const std::uint64_t arguments = registers.rsp + sizeof(std::uint64_t);
  if (callback.stack_words != 0 &&
      !memory.Read(arguments,
                   std::as_writable_bytes(std::span(frame.stack).first(callback.stack_words)))) {
    return StackFault(arguments);
  }
  RunCallback(callback, frame);
  if (callback.has_large_result) {
    // Returned, as it was given. [abi §3.2.3]
    frame.result.integer = frame.integers[0];
    if (!memory.Write(frame.integers[0], frame.large_result)) return StackFault(frame.integers[0]);
  }
  registers.rax = frame.result.integer;
  registers.rdx = frame.result.second_integer;
  if (!callback.uses_vectors) return StackFault();
  const absl::Status written =
      cpu.WriteVectors({frame.result.vector, frame.result.second_vector});
  if (!written.ok()) return written;
  return StackFault();
}

absl::StatusOr<internal::CallResult> ResultOfCall(GuestCpu& cpu, const internal::CallFrame& frame,
                                                  const GuestCpu::Returned& returned) {
  internal::CallResult result{.integer = returned.integer, .second_integer = returned.second_integer};
  if (!frame.wants_vector_result) return result;
  const absl::StatusOr<Vectors> vectors = cpu.ReadVectors();
  if (!vectors.ok()) return vectors.status();
  result.vector = (*vectors)[0];
  result.second_vector = (*vectors)[1];
  return result;
}

}  // namespace dunebox::plugin
