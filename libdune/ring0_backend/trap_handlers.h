// Who handles which exception, for all threads. SharedState::handled says for which vectors the
// stubs look here.
//
//   trap_handlers.by_vector[6].Set(handler, HandlerKind::kFull);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_TRAP_HANDLERS_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_TRAP_HANDLERS_H_

#include <atomic>

#include "dune/trap.h"

namespace dune::ring0 {

// A handler and its kind, which change together: one that is called as the other kind loses the interrupted code's registers.
// In one word, whose highest bit no address of the program's has.
template <typename Handler>
class ChosenHandler {
 public:
  struct Choice {
    Handler handler;
    HandlerKind kind;
  };
  void Set(Handler handler, HandlerKind kind) {
    word_.store(reinterpret_cast<std::uint64_t>(handler) | (kind == HandlerKind::kLight ? kLightBit : 0),
                std::memory_order_release);
  }
  Choice Get() const {
    const std::uint64_t word = word_.load(std::memory_order_acquire);
    return {reinterpret_cast<Handler>(word & ~kLightBit),
            (word & kLightBit) != 0 ? HandlerKind::kLight : HandlerKind::kFull};
  }

 private:
  static constexpr std::uint64_t kLightBit = std::uint64_t{1} << 63;
  std::atomic<std::uint64_t> word_{0};
};

struct TrapHandlers {
  ChosenHandler<TrapHandler> by_vector[32];
  ChosenHandler<PageFaultHandler> page_fault;
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
