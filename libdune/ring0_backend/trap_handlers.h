// Who handles which exception, for all threads. SharedState::handled says for which vectors the
// stubs look here.
//
//   trap_handlers.by_vector[6].store(handler);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_TRAP_HANDLERS_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_TRAP_HANDLERS_H_

#include <atomic>

#include "dune/trap.h"

namespace dune::ring0 {

struct TrapHandlers {
  std::atomic<TrapHandler> by_vector[32];
  std::atomic<HandlerKind> kinds[32];
  std::atomic<PageFaultHandler> page_fault;
};
extern TrapHandlers trap_handlers;

// All exceptions but those that have a call of their own or are not the program's: #PF, NMI, #DF,
// #MC.
inline constexpr std::uint32_t kSettableVectors = 0x003b'3cfb;

void SetHandler(unsigned vector, TrapHandler handler, HandlerKind kind);
void SetHandler(PageFaultHandler handler, HandlerKind kind);

}  // namespace dune::ring0

// ring0_entry.S: handler(argument) with x87 and vector state saved around it, and a fresh one
// inside.
extern "C" int dune_call_with_state_saved(void* handler, void* argument, std::uint64_t state_bytes,
                                          std::uint64_t features)
    __attribute__((visibility("hidden")));

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_TRAP_HANDLERS_H_
