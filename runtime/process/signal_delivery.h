// From a pending signal or a fault to the guest's handler, or to the end of the process.
#ifndef DUNEBOX_RUNTIME_PROCESS_SIGNAL_DELIVERY_H_
#define DUNEBOX_RUNTIME_PROCESS_SIGNAL_DELIVERY_H_

#include <signal.h>

#include <cstddef>
#include <span>

#include "runtime/engine.h"
#include "runtime/process/guest_thread.h"

namespace dunebox::process {

// Delivers what the host handler has noted, then opens the host mask to the guest's again.
void DeliverPending(GuestThread& thread);
// Delivers the signal of a fault. It cannot be blocked or ignored: then the process ends.
void DeliverFault(GuestThread& thread, const runtime::Fault& fault);
// Delivers a signal that a debugger has made up.
void DeliverInjected(GuestThread& thread, int signal);
// Takes over the host mask the process was started with.
void SetInitialMask(GuestThread& thread);
// Sets the guest's mask and the host's with it.
void SetSignalMask(GuestThread& thread, std::uint64_t mask);

// The siginfo Linux makes of a fault. Pure. `rip` is where it happened; `extended_state` is
// looked at for floating-point exceptions only.
siginfo_t SignalOfFault(const runtime::Fault& fault, std::uint64_t rip,
                        std::span<const std::byte> extended_state);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_SIGNAL_DELIVERY_H_
