// Exceptions of the program's own code, which the host's kernel tells by signals, for the handlers of <dune/trap.h>.
// The signals' former dispositions are kept, and get what no handler takes; who changes such a disposition later takes
// the signal away from here. Full and light handlers run the same way: the kernel has saved the vector registers anyhow. While
// those of a signal are all brief, the kernel holds other signals back until they have returned.
//
//   faults::SetResolver([](std::uintptr_t address, Rights wanted) { ... });
//   absl::Status set = faults::SetTrapHandler(0, handler, HandlerKind::kFull);
//
// The process's, not a machine's: signals know no objects. Thread-safe.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_FAULTS_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_FAULTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "dune/page_table.h"
#include "dune/trap.h"

namespace dune::software::faults {

// Asked about every page fault first, in every thread: whether it is over.
using Resolver = bool (*)(std::uintptr_t address, Rights wanted);
void SetResolver(Resolver resolver);

// Null gives the vector back. Called only in threads that are in.
absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind kind);
absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind kind);

// Bit N: vector N can be had.
std::uint32_t SettableVectors();

// Around a fork.
void Lock();
void Unlock();

}  // namespace dune::software::faults

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_FAULTS_H_
