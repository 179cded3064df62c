// Signal frames in the kernel's ABI: what a handler finds on its stack and what rt_sigreturn takes
// back. [linux] arch/x86/include/uapi/asm/{sigcontext,ucontext}.h
//
//   high  +---------------------------+
//         | XSAVE area, 64-aligned    |  with the software-reserved words and magic2 behind it
//         +---------------------------+
//         | siginfo                   |
//         | ucontext                  |  RDX
//   RSP-> | return address (restorer) |  RSP + 8 is 16-aligned
//   low   +---------------------------+
//
// A frame that comes back is an adversary's: every field is checked after it was copied.
#ifndef DUNEBOX_RUNTIME_SIGNALS_FRAME_H_
#define DUNEBOX_RUNTIME_SIGNALS_FRAME_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "hostcalls/abi/ring0_abi.h"
#include "hostcalls/abi/signal_frame.h"
#include "hostcalls/memory/guest_memory.h"
#include "runtime/engine.h"
#include "runtime/signals/action.h"

namespace dunebox::signals {

// SS_AUTODISARM: the stack is disabled while a handler runs on it.
inline constexpr std::int32_t kAutoDisarm = std::int32_t{1} << 31;

inline constexpr std::uint64_t kMinimumAlternateStack = DUNE_MINIMUM_SIGNAL_STACK;

using abi::AlternateStack;
using abi::SignalContext;
using abi::SignalFrame;
using abi::UserContext;

// Whether a thread with this stack pointer stands on the stack, as the kernel sees it: on one of
// SS_AUTODISARM nobody does.
bool StandsOn(const AlternateStack& stack, std::uint64_t rsp);
// What becomes of a stack that a program names, whatever its size; nothing: its flags are none.
std::optional<AlternateStack> AlternateStackFor(const AlternateStack& wanted);

// The fault that caused a synchronous signal, for the context's last fields.
struct TrapInfo {
  std::uint64_t vector = 0;
  std::uint64_t error_code = 0;
  std::uint64_t address = 0;
};

// What delivery needs to know of the thread.
struct DeliveryState {
  runtime::Registers* registers;
  runtime::EngineThread* engine;
  const hostcalls::GuestMemory* memory;
  AlternateStack* alternate_stack;
  std::uint64_t mask;  // to be restored by rt_sigreturn
};

// Writes the frame for `info` and points the registers at the handler. False: the stack cannot
// take it, which is a SIGSEGV that cannot be handled. Not OK: the engine cannot give or take the
// extended state, which is the host's failure and not the guest's.
absl::StatusOr<bool> PushFrame(const DeliveryState& state, const KernelAction& action,
                               const siginfo_t& info, const TrapInfo& trap);

// Undoes PushFrame from the frame at RSP - 8. When true the registers, the extended state, the
// alternate stack are the frame's and `*mask` is the mask to install. False: SIGSEGV, with `*mask`
// in force if the frame could be read at all, as on Linux. Not OK: as above.
absl::StatusOr<bool> PopFrame(const DeliveryState& state, std::uint64_t* mask);

// AT_MINSIGSTKSZ for this extended-state size.
std::uint64_t MinimumSignalStack(std::size_t extended_state_size);

}  // namespace dunebox::signals

#endif  // DUNEBOX_RUNTIME_SIGNALS_FRAME_H_
