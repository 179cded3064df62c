// Small writes that the guest's ring 0 takes instead of the host, which carries them out at the next exit
// (--posted-writes): one page for the whole machine, used only while its process has one thread.
//
// Ring 0 appends a record for each write, its bytes behind it, and then moves `used`. The host copies what is
// there and believes nothing of it: a record counts only if it is whole, short, and for a descriptor that was lent.
//
//   box.descriptors = 1 << STDOUT_FILENO;   // the host, before the guest runs
//   ... if (box.used != 0) ...              // and after
#ifndef DUNEBOX_HOSTCALLS_ABI_POSTED_WRITES_H_
#define DUNEBOX_HOSTCALLS_ABI_POSTED_WRITES_H_

// As the assembler sees them: where the page is in the arena, and what is in it.
#define DUNE_POSTED_OFFSET 0xa000
#define DUNE_POSTED_DESCRIPTORS 0
#define DUNE_POSTED_USED 8
#define DUNE_POSTED_RECORDS 16
#define DUNE_POSTED_ROOM 4080
#define DUNE_POSTED_HEADER 8
#define DUNE_POSTED_MOST_BYTES 512 /* of one write */
#define DUNE_POSTED_MOST_DESCRIPTOR 63

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace dunebox::abi {

struct PostedRecord {
  std::uint32_t descriptor;
  std::uint32_t bytes;  // that follow, and then as many as make a multiple of 8
};
static_assert(sizeof(PostedRecord) == DUNE_POSTED_HEADER);

struct PostedWrites {
  std::uint64_t descriptors;  // a bit for each that may be posted to
  std::uint64_t used;         // bytes of records
  std::byte records[DUNE_POSTED_ROOM];
};
static_assert(offsetof(PostedWrites, descriptors) == DUNE_POSTED_DESCRIPTORS);
static_assert(offsetof(PostedWrites, used) == DUNE_POSTED_USED);
static_assert(offsetof(PostedWrites, records) == DUNE_POSTED_RECORDS);
static_assert(sizeof(PostedWrites) == 4096);

}  // namespace dunebox::abi

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_HOSTCALLS_ABI_POSTED_WRITES_H_
