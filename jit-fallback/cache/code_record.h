// The files of --jit-record: every piece of code that went into a process's code cache, in the
// order in which it did. Written by runtime/jit/code_recorder.cc, read by tests/security/checker,
// which knows nothing else of the translator.
//
// A file is records one behind the other, with nothing in front. A record is a Header,
// `exits` Exits, `code_size` bytes of code, and zeros up to a multiple of eight. All
// numbers are little-endian. DIR/PID-N.blocks is of the N-th program of process PID; a forked child
// begins with an empty file, although it may go on with its parent's code.
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_CODE_RECORD_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_CODE_RECORD_H_

#include <cstddef>
#include <cstdint>

namespace dunebox::record {

inline constexpr std::uint32_t kMagic = 0x31'4b'4c'42;  // "BLK1"

enum class Kind : std::uint8_t {
  kDirectBlock = 0,    // entered by direct jumps, all registers in the CPU
  kIndirectBlock = 1,  // entered through the lookup table, RCX and R11 in their slots
  kIndirectStub = 2,   // the same, and jumps to the direct block
  kExitStub = 3,       // where an exit leads that has no block yet
};

enum class Isolation : std::uint8_t { kNone = 0, kPku = 1, kSeg = 2, kMask = 3, kMaskWrites = 4 };

// Header::flags
inline constexpr std::uint8_t kCheckByLoop = 1;   // the indirect entry ends in LOOP
inline constexpr std::uint8_t kSelfChecking = 2;  // compares the guest's bytes when entered
inline constexpr std::uint8_t kIsSingle = 4;    // of a single step: no call runs in place

struct Header {
  std::uint32_t magic;
  std::uint32_t size;  // of all of the record, a multiple of eight
  Kind kind;
  Isolation isolation;
  std::uint8_t flags;
  std::uint8_t zero;
  std::uint32_t generation;  // of the cache: how often it was emptied before this
  std::uint64_t pc;          // the guest's; of an exit stub: where the exit leads
  std::uint64_t host;        // where the first byte of the code lies
  std::uint32_t entry;       // offset in the code at which it is entered
  std::uint32_t code_size;
  std::uint32_t exits;
  std::uint32_t zero2;
};
static_assert(sizeof(Header) == 48);

// A direct jump whose four bytes at `offset` the cache sets: to the entry of the direct block at
// `target`, or to the exit's stub. What the bytes are in the record means nothing.
struct Exit {
  std::uint32_t offset;
  std::uint32_t zero;
  std::uint64_t target;
};
static_assert(sizeof(Exit) == 16);

// Long enough for a block, short enough to notice a file of something else.
inline constexpr std::uint32_t kLargest = 1 << 20;

}  // namespace dunebox::record

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_CODE_RECORD_H_
