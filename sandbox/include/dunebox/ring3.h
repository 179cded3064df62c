// A ring 3 for libdune where the machine has no ring 0: dune::RunUser, dune::LoadProgram and the tables that they work
// with, by translating the code that runs in them (engine jit, isolation `seg`). Which backend serves is dune::Enter's
// choice; with ring 0 this changes nothing.
//
//   absl::Status provided = dunebox::ProvideRing3();   // before dune::Enter
//   absl::Status entered = dune::Enter();
//   if (dune::GetCapabilities().user_mode) Run();
//
// What differs from ring 0, in the software backend:
// - ring 3's addresses are from 64 KiB to 4 GiB, whatever lies above bit 31 of an operand's address is ignored, and a
//   table is PageTable::Contents::kEmpty, with 4 KiB pages of Ring::kUser; Clone, Share, Track and Activate are
//   kUnimplemented.
// - PageTable::Map takes shared memory only (MAP_SHARED), a range of one mapping: else kInvalidArgument.
// - a forked child cannot use its parent's tables: kFailedPrecondition.
//
// It is one wall, the translator's: ring 3's system calls come to RunUser's caller and never to the kernel, but the
// kernel confines nothing. Signals are taken over as for plugins (docs/plugins.md).
#ifndef DUNEBOX_SANDBOX_RING3_H_
#define DUNEBOX_SANDBOX_RING3_H_

#include "absl/status/status.h"

namespace dunebox {

// Before the first dune::Enter, else kFailedPrecondition. kUnavailable: the processor lacks something that the
// translator needs.
absl::Status ProvideRing3();

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_RING3_H_
