// The program's trap handlers, called in ring 0 without an exit: by the stubs, on the handlers'
// stack. Built for general registers only: what was interrupted may be in the middle of vector
// code.
#include "libdune/ring0_backend/entries.h"
#include "libdune/ring0_backend/flush.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/ring0_backend/trap_handlers.h"
#include "libdune/x86/control.h"

namespace dune::ring0 {

constinit TrapHandlers trap_handlers;

namespace {

void SetHandled(unsigned vector, bool on) {
  std::atomic_ref<std::uint64_t> handled(vm.shared->handled);
  const std::uint64_t bit = std::uint64_t{1} << vector;
  if (on) {
    handled.fetch_or(bit);
  } else {
    handled.fetch_and(~bit);
  }
}

// The program's own limit forbids the access that failed; then the loop need not be asked.
bool IsLimited(std::uint64_t address, std::uint64_t error) {
  if (address >= kAddressesEnd) return false;
  int level = 0;
  const Entry* const leaf = FindLeaf(vm.root, address, &level);
  if (leaf == nullptr) return false;
  const std::uint64_t word = leaf->load(std::memory_order_relaxed);
  if ((word & bits::kLimited) == 0) return false;
  if ((error & x86::page_fault::kWrite) != 0) return (word & bits::kMayWrite) == 0;
  if ((error & x86::page_fault::kInstruction) != 0) return (word & bits::kMayExecute) == 0;
  return (word & bits::kMayRead) == 0;
}

template <typename Argument>
int Call(const ChosenHandler<Resolution (*)(Argument&)>& chosen, Argument& argument) {
  const auto [handler, kind] = chosen.Get();
  if (handler == nullptr) return DUNE_DISPATCH_PASS;
  const Resolution resolution =
      kind == HandlerKind::kLight
          ? handler(argument)
          : static_cast<Resolution>(dune_call_with_state_saved(reinterpret_cast<void*>(handler), &argument,
                                                               vm.state_bytes, vm.xcr0));
  return resolution == Resolution::kResume ? DUNE_DISPATCH_RESUME : DUNE_DISPATCH_PASS;
}

int DispatchPageFault(TrapFrame* frame, std::uint64_t address, bool asked) {
  const std::uint64_t used = UsedTable();
  if (!asked && used != vm.root && (frame->error & x86::page_fault::kWrite) != 0) {
    bool no_frame = false;
    if (ResolveCopyOnWrite(used, address, &no_frame)) return DUNE_DISPATCH_RESUME;
  }
  if (!asked && !IsLimited(address, frame->error)) return DUNE_DISPATCH_ASK;
  namespace page_fault = x86::page_fault;
  PageFault fault{.address = address,
                  .access = (frame->error & page_fault::kWrite) != 0         ? Access::kWrite
                            : (frame->error & page_fault::kInstruction) != 0 ? Access::kExecute
                                                                             : Access::kRead,
                  .present = (frame->error & page_fault::kPresent) != 0,
                  .frame = *frame};
  return Call(trap_handlers.page_fault, fault);
}

}  // namespace

// Handler before bit: who sees the bit sees the rest.
void SetHandler(unsigned vector, TrapHandler handler, HandlerKind kind) {
  trap_handlers.by_vector[vector].Set(handler, kind);
  SetHandled(vector, handler != nullptr);
}
void SetHandler(PageFaultHandler handler, HandlerKind kind) {
  trap_handlers.page_fault.Set(handler, kind);
  // For good: tables whose pages are copied when written to want it, too.
  if (handler != nullptr) SetHandled(DUNE_VECTOR_PAGE_FAULT, true);
}

}  // namespace dune::ring0

int dune_dispatch_trap(dune::TrapFrame* frame, std::uint64_t address, unsigned asked) {
  using namespace dune::ring0;
  if (frame->vector == DUNE_VECTOR_PAGE_FAULT) {
    return DispatchPageFault(frame, address, asked != 0);
  }
  return Call(trap_handlers.by_vector[frame->vector], *frame);
}
