#include "runtime/memory/layout.h"

#include "hostcalls/memory/guest_memory.h"

namespace dunebox::memory {
namespace {

constexpr std::uint64_t kWindowEnd = hostcalls::Window::WholeProgram().limit;
constexpr std::uint64_t kPieBase = 0x2aaa'aaaa'a000;
constexpr unsigned kStackBits = 22;  // pages: 16 GiB of positions
constexpr unsigned kMmapBits = 26;   // pages: 256 GiB
constexpr unsigned kPieBits = 26;
constexpr unsigned kHeapBits = 13;   // pages: 32 MiB

// Low images: programs grow up from here, libraries down from 1.5 GiB. Behind non-PIE programs, which
// rarely end beyond 256 MiB, and half a GiB below 2 GiB: compilers that run in a program reserve room
// for code in reach of a library, mostly behind it, and not all of them can stand to have one part of
// it on this side of 2 GiB, where immediate operands are signed, and one on the other.
constexpr std::uint64_t kLowImages = 0x1000'0000;
constexpr std::uint64_t kLowImagesEnd = 0x5fff'0000;
constexpr unsigned kLowImageBits = 15;  // pages: 128 MiB, at either end

// Small programs: there is less to choose from, and the stack takes no more than an eighth.
constexpr std::uint64_t kSmallEnd = 0x1'0000'0000;
constexpr std::uint64_t kSmallHeap = 0x8000'0000;
constexpr unsigned kSmallBits = 12;  // pages: 16 MiB

// Takes `bits` bits of `random` as a number of pages, in bytes.
std::uint64_t TakePages(std::uint64_t& random, unsigned bits) {
  const std::uint64_t pages = random & ((std::uint64_t{1} << bits) - 1);
  // Mix so that later fields do not depend on the bits used here.
  random = (random >> bits) ^ (random * 0x9e37'79b9'7f4a'7c15);
  return pages * kPageSize;
}

}  // namespace

Layout Layout::FromRandom(std::uint64_t random, std::uint64_t stack_size, Images images) {
  Layout layout;
  // The last page stays free: a struct at the very end never straddles the limit.
  const bool is_small = images == Images::kSmall;
  layout.stack_top = GuestVirt{(is_small ? kSmallEnd : kWindowEnd) - kPageSize -
                               TakePages(random, is_small ? kSmallBits : kStackBits)};
  const std::uint64_t below_stack = PageUp(stack_size) + kStackGuardGap;
  layout.mmap_top =
      layout.stack_top - below_stack - TakePages(random, is_small ? kSmallBits : kMmapBits);
  layout.mmap_bottom = GuestVirt{0x1'0000};
  layout.pie_base = GuestVirt{kPieBase + TakePages(random, kPieBits)};
  layout.heap_gap = kPageSize + TakePages(random, kHeapBits);
  if (images != Images::kSpread) {
    layout.heap_base = is_small ? GuestVirt{kSmallHeap} : layout.pie_base;
    layout.pie_base = GuestVirt{kLowImages + TakePages(random, kLowImageBits)};
    layout.image_area = {GuestVirt{kLowImages},
                         GuestVirt{kLowImagesEnd - TakePages(random, kLowImageBits)}};
  }
  return layout;
}

}  // namespace dunebox::memory
