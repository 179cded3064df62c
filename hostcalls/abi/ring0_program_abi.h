// The image that lies in the arena when the program itself runs in ring 0 (--ring=0): what its
// header says. Ports, the trap frame and where things lie are those of ring0_abi.h.
//
// The program may rewrite the image, so nothing that comes from it proves anything: the host reads
// this header from its own copy, and never from the arena. [DESIGN D9]
#ifndef DUNEBOX_HOSTCALLS_ABI_RING0_PROGRAM_ABI_H_
#define DUNEBOX_HOSTCALLS_ABI_RING0_PROGRAM_ABI_H_

#include "hostcalls/abi/ring0_abi.h"

#define DUNE_PROGRAM_IMAGE_MAGIC 0x3067727078646f62 /* "bodxprg0" */

#ifndef __ASSEMBLER__

#include <cstdint>

namespace dunebox::abi {

// The first bytes of the image: where its entry points are, as offsets from its start.
struct ProgramImageHeader {
  std::uint64_t magic;
  std::uint64_t vectors;          // DUNE_VECTOR_COUNT stubs
  std::uint64_t trap_out;         // the OUT of the trap path
  std::uint64_t trap_return;      // pops vector and error code, IRETQ
  std::uint64_t trap_return_end;  // first byte after the IRETQ
  std::uint64_t syscall_entry;    // LSTAR; its first instruction is the OUT
};
static_assert(sizeof(ProgramImageHeader) == 6 * 8);

}  // namespace dunebox::abi

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_HOSTCALLS_ABI_RING0_PROGRAM_ABI_H_
