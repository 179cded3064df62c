// Clones of Current(): tables that have the process's pages in common with it, each until ring 0 writes to the page. Then the
// clones get a copy of it first, and the process keeps its own, which is where the host's kernel looks for it. Pages that are
// lent so say it (bits::kLent) and cannot be written to, so the write is a page fault that comes to a loop.
//
// Everything here is the loops', with the lock: nothing else of the mirror changes meanwhile.
//
//   if (AddClone(root) == 0) ...
//   KeepPage(page, entry);  // from here on it may be written to
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_CLONES_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_CLONES_H_

#include <cstdint>

#include "libdune/ring0_backend/entries.h"

namespace dune::ring0 {

// The pages that the mirror knows, into the table at `root`, which is empty. -EAGAIN: there are as many as there can be;
// -ENOMEM: no frame for a table. Translations of before have to be flushed.
long AddClone(std::uint64_t root);
void RemoveClone(std::uint64_t root);

// Where no frame is left for a copy a clone has lost the page, and says so when it is read.
void KeepPage(std::uint64_t page, Entry& entry);
// The same for what is lent in a range whose memory goes. Where there is no clone it costs nothing.
void KeepRange(std::uint64_t begin, std::uint64_t size);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_CLONES_H_
