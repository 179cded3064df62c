// Translations that can be used again, as records: what BlockStore has in memory and PreparedBlocks in
// a file. All of a block lies together, since it is needed together. Of a guest's addresses there are
// only such in its code as can be moved (Emitter::addresses), and none of the host's.
//
// A block is found by the guest's bytes, all of which are compared, and by nothing else: whose they
// were and where they came from does not matter, as what is found is what translating them again
// would make.
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_KEPT_BLOCKS_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_KEPT_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/translate/block.h"

namespace dunebox::jit {

// What a record begins with. Behind it are as many exits, recoveries, addresses, bytes of the guest's
// and of the host's as it says. Addresses of the guest's in its code are at least `lowest` and at most
// `highest` from the block's own.
struct KeptHead {
  std::uint32_t check;  // in a file: CRC-32C of the record behind it
  std::uint32_t pc;     // where it was translated
  std::int32_t lowest, highest;
  std::uint32_t entry;
  std::uint16_t exits, recoveries, addresses, guest, host;
  EntryKind kind;
  bool may_use_x87;
};
static_assert(sizeof(KeptHead) == 32);

struct KeptExit {
  std::uint32_t offset;
  std::int32_t distance;  // of the target, from the block
};

// A block as it would be at another address, and where that is put together.
struct MovedCode {
  std::vector<std::uint8_t> code;
  std::vector<ExitSite> exits;
  std::vector<std::uint64_t> addresses;  // the guest's that the code names, but in differences
};
// It lies in a MovedCode, and in the record.
struct FoundBlock {
  std::uint32_t length;  // bytes of the guest's
  bool may_use_x87;
  EmittedCode emitted;
};

// A record, where it lies.
class KeptBlock {
 public:
  // Of a record's bytes there are a multiple of these, and so they lie.
  static constexpr std::size_t kAlignment = 4;
  static constexpr std::size_t kMostBytes = 0xffff;  // of the guest's, and of the host's

  // The record of what the emitter has made of a block that can be moved. What its exits lead to is no
  // further than 2 GiB from it. Preconditions: it has bytes, and at most kMostBytes.
  static void Write(const Block& block, EntryKind kind, const Emitter& emitter, bool may_use_x87,
                    std::vector<std::uint8_t>& record);
  // The one that begins there; nothing: it is not all inside, or is of nothing. Preconditions: `at` is aligned, and `records` is.
  static std::optional<KeptBlock> In(std::span<const std::uint8_t> records, std::size_t at);

  const KeptHead& head() const { return *reinterpret_cast<const KeptHead*>(record_); }
  std::span<const std::uint8_t> record() const { return {record_, places_.end}; }
  // Whether the block begins with the first of `bytes`, and can be moved to `pc`.
  bool IsAt(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind) const;
  FoundBlock MoveTo(std::uint64_t pc, MovedCode& moved) const;

 private:
  struct Places {
    std::size_t exits, recoveries, addresses, guest, host, end;
  };
  KeptBlock(const std::uint8_t* record, const Places& places) : record_(record), places_(places) {}
  static Places PlacesOf(const KeptHead& head);
  template <typename T>
  std::span<const T> At(std::size_t place, std::size_t count) const {
    return {reinterpret_cast<const T*>(record_ + place), count};
  }

  const std::uint8_t* record_;
  Places places_;
};

// Blocks are looked for by so many bytes, of which they may have fewer; fewer there must not be.
inline constexpr std::size_t kKeyBytes = 32;
std::uint64_t KeyOf(std::span<const std::uint8_t> bytes, EntryKind kind);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_KEPT_BLOCKS_H_
