// The page table that mirrors the process: guest-virtual = host-virtual, all pages supervisor. It
// learns what is mapped from the kernel when a page faults, and is told before a mapping goes away
// or loses rights. What it does not notice (a thread outside ring 0 unmaps something) shows as
// EFAULT of KVM_RUN; then everything is learnt anew.
//
//   switch (Fill(cr2, error_code)) { case Filled::kYes: ... }
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_MIRROR_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_MIRROR_H_

#include <cstdint>

#include "libdune/ring0_backend/vm.h"

namespace dune::ring0 {

enum class Filled : std::uint8_t {
  kYes,        // the access can be made again
  kLimited,    // the program itself forbids it (PageTable::Protect)
  kNotMapped,  // SEGV_MAPERR
  kForbidden,  // SEGV_ACCERR
  kNoBacking,  // behind the end of a file: SIGBUS
  kNoRoom,     // no frame for a table, or no granule
};
// What a page fault says was tried. [intel/vol3 §4.7]
Filled Fill(std::uint64_t address, std::uint64_t error_code);

// A page that Fill has filled, in another table that the program uses in ring 0 and that has tables
// of its own there. kNotMapped, kLimited: it is that table which has nothing there, or forbids the access.
Filled ShowIn(std::uint64_t root, std::uint64_t address, std::uint64_t error_code);
// A vCPU's handlers' stack, in a table that it is about to use: traps use the stack before a page fault could show it. False: no frame.
bool ShowHandlerStack(std::uint64_t root, const VcpuState& state);
// The copies of what the process has that such a table has, which may be out of date: they are looked up again.
void DropCopies(std::uint64_t root);

// All with the lock. An entry is dropped before the kernel changes the range. Forgotten entries lose everything that
// was known of the page; dropped ones keep the program's limit and the dirty and accessed bits.
void Forget(std::uint64_t begin, std::uint64_t size);
void Drop(std::uint64_t begin, std::uint64_t size);
// Of a range that was dropped, where the kernel has nothing any more.
void ForgetUnmapped(std::uint64_t begin, std::uint64_t size);

// The empty mirror with the part of the upper half that every table has. Natively, once.
bool MakeMirror();
// A place's pages in the upper half, and its handler stack, for good. With the lock.
bool ShowBlock(Thread* thread);

// Offsets in the stubs' text, and the address that they call.
std::uint64_t SyscallEntryOffset();
std::uint64_t DispatchAddress();

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_MIRROR_H_
