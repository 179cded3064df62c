// What only ring 0 can do with page tables: choose one, forget translations, and copy a page that
// is shared until it is written to. Usable by trap handlers: general registers only, no locks.
//
//   FlushRange({page, kPageSize});
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_FLUSH_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_FLUSH_H_

#include <cstdint>

#include "dune/page_table.h"
#include "libdune/ring0_backend/entries.h"
#include "libdune/ring0_backend/layout.h"

namespace dune::ring0 {

bool IsInRing0();
// Of the calling thread, in the upper half.
VcpuState& State();
TableTags& Tags();

std::uint64_t UsedTable();
void UseTable(std::uint64_t root);
// Around the time when ring 3 uses a table: its word for CR3.
TableTags::Use PrepareTable(std::uint64_t root);
void TableWasUsed(const TableTags::Use& use);

// From here on a write of ring 0's own to a page that is copied on write is for the traps' stub first.
void ExpectCopies();

// Every vCPU forgets its translations of `range`.
void FlushRange(Range range);

// The page at `address` in the table becomes one that can be written to, if it is kCopyOnWrite.
// False: it is not. Without a frame for the copy: false as well, and *no_frame.
bool ResolveCopyOnWrite(std::uint64_t root, std::uint64_t address, bool* no_frame);
// The leaf for a write that does not go by the table: the copy's, where the page is kCopyOnWrite. It may lie in other tables than
// the page's did. *no_frame: there is none for the copy.
Leaf LeafToWrite(std::uint64_t root, std::uint64_t address, bool* no_frame);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_FLUSH_H_
