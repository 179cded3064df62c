// Translations that can be used again, as arrays: what BlockStore has in memory and PreparedBlocks in
// a file. Of a guest's addresses there are only such in their code as can be moved
// (Emitter::addresses), and none of the host's.
//
// A block is found by the guest's bytes, all of which are compared, and by nothing else: whose they
// were and where they came from does not matter, as what is found is what translating them again
// would make.
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_KEPT_BLOCKS_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_KEPT_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

// Part of an array.
struct KeptPart {
  std::uint32_t first, count;
};

// Addresses of the guest's in its code are at least `lowest` and at most `highest` from the block's
// own.
struct KeptBlock {
  std::uint32_t pc;  // where it was translated
  std::int32_t lowest, highest;
  KeptPart guest, host, exits, recovery, addresses;
  std::uint32_t entry;
  EntryKind kind;
  bool may_use_x87;
  std::uint16_t zero;
};
static_assert(sizeof(KeptBlock) == 60);

struct KeptExit {
  std::uint32_t offset;
  std::int32_t distance;  // of the target, from the block
};

// What the parts of blocks are parts of. `bytes` has the guest's and the host's.
struct KeptArrays {
  std::span<const std::uint8_t> bytes;
  std::span<const KeptExit> exits;
  std::span<const Recovery> recoveries;
  std::span<const AddressSite> addresses;
};

// A block as it would be at another address, and where that is put together.
struct MovedCode {
  std::vector<std::uint8_t> code;
  std::vector<ExitSite> exits;
  std::vector<std::uint64_t> addresses;  // the guest's that the code names, but in differences
};
// It lies in a MovedCode, and in the arrays.
struct FoundBlock {
  std::uint32_t length;  // bytes of the guest's
  bool may_use_x87;
  EmittedCode emitted;
};

// Blocks are looked for by so many bytes, of which they may have fewer; fewer there must not be.
inline constexpr std::size_t kKeyBytes = 32;
std::uint64_t KeyOf(std::span<const std::uint8_t> bytes, EntryKind kind);

// Whether the block begins with the first of `bytes`, and can be moved to `pc`.
bool IsAt(const KeptBlock& block, const KeptArrays& arrays, std::uint64_t pc,
          std::span<const std::uint8_t> bytes, EntryKind kind);
FoundBlock MoveTo(std::uint64_t pc, const KeptBlock& block, const KeptArrays& arrays,
                  MovedCode& moved);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_KEPT_BLOCKS_H_
