#include "dune/trap.h"

#include "libdune/backend.h"

namespace dune {
namespace {

constexpr unsigned kVectors = 32;
// #PF has a call of its own; #NMI, #DF and #MC are not the program's faults.
constexpr std::uint32_t kNotSettable = 1u << 14 | 1u << 2 | 1u << 8 | 1u << 18;

}  // namespace

absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind kind) {
  if (vector >= kVectors || (kNotSettable >> vector & 1) != 0) {
    return absl::InvalidArgumentError("no vector that a handler can be set for");
  }
  Machine* const machine = CurrentMachine();
  return machine == nullptr ? NotEntered() : machine->SetTrapHandler(vector, handler, kind);
}

absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind kind) {
  Machine* const machine = CurrentMachine();
  return machine == nullptr ? NotEntered() : machine->SetPageFaultHandler(handler, kind);
}

}  // namespace dune
