// Where a whole program's parts lie in the user half, with Dunebox's own randomisation.
//
//   0x0000_0000_0001_0000  lowest address (mmap_min_addr)
//   0x0000_0000_0040_0000  non-PIE programs, where they ask to be
//   0x0000_2aaa_....._...  PIE programs (two thirds up), heap after them
//   or, with Images::kLow  images of programs and libraries below 1.5 GiB, where translated code names
//                          their addresses without a register; the heap stays where it was
//   or, with Images::kSmall  the same below 4 GiB: images up to 1.5 GiB, heap from 2; mmap area and
//                          stack at the top
//   0x0000_3f.._....._...  mmap area, growing down from below the stack
//   0x0000_3fff_....._...  stack
//   0x0000_4000_0000_0000  end of the user half: bit 46 and everything above is the runtime's
#ifndef DUNEBOX_RUNTIME_MEMORY_LAYOUT_H_
#define DUNEBOX_RUNTIME_MEMORY_LAYOUT_H_

#include <cstdint>

#include "hostcalls/memory/address.h"

namespace dunebox::memory {

enum class Images : unsigned char { kSpread, kLow, kSmall };

struct Layout {
  GuestVirt stack_top;    // page-aligned, exclusive
  GuestVirt mmap_top;     // fresh mappings go below this
  GuestVirt mmap_bottom;  // and not below this
  GuestVirt pie_base;     // load bias of ET_DYN programs
  std::uint64_t heap_gap; // random bytes between image and heap, page-aligned
  GuestVirt heap_base;    // the heap of ET_DYN programs; 0: behind the image
  GuestRange image_area;  // files are mapped here while there is room; may be empty

  // With `random` bits from the caller (getrandom); the same bits give the same layout.
  static Layout FromRandom(std::uint64_t random, std::uint64_t stack_size,
                           Images images = Images::kSpread);
};

// Linux leaves at least this much between the stack and the next mapping. [linux]
inline constexpr std::uint64_t kStackGuardGap = 256 * kPageSize;

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_LAYOUT_H_
