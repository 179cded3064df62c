// Translations that translators of a process have in common whose guests are at different
// addresses: of code in windows, which has no address of the host's, and of the guest's only such
// as can be moved (Emitter::addresses). A dynamic linker and a C library are translated once,
// however many sandboxes begin with them.
//
// A block is found by the guest's bytes, all of which are compared, and by nothing else: whose they
// were and where they came from does not matter, as what is found is what translating them again
// would make. What is kept is the host's, no guest can reach it, and it stays for good; when there
// is no room left, nothing is added.
//
//   if (const auto kept = store.Find(pc, bytes, kind, moved)) cache.Add(block, kind,
//   kept->emitted); else store.Add(block, kind, emitter, MayUseX87(block));
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_BLOCK_STORE_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_BLOCK_STORE_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "jit-fallback/cache/stable_array.h"
#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

class BlockStore {
 public:
  // The one of all translators in this process whose emitters have such options; null: code of such
  // is not kept. The first to ask has none either: to keep what it makes would be a fifth of a
  // first sandbox's time, and most processes have no second.
  static BlockStore* ForProcess(const EmitterOptions& options);

  BlockStore();

  // A block as it would be at another address, and where that is put together.
  struct Moved {
    std::vector<std::uint8_t> code;
    std::vector<ExitSite> exits;
  };
  struct Kept {
    std::uint32_t length;  // bytes of the guest's
    bool may_use_x87;
    EmittedCode emitted;
  };
  // The block that begins with the first of `bytes`, at `pc`. What is found lies in `moved` and in
  // the store.
  std::optional<Kept> Find(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind,
                           Moved& moved) const;
  // What the emitter has just made of the block, if it can be moved and there is room. Not of one
  // that checks itself or is executed once. The block's bytes are a copy that no guest can change.
  void Add(const Block& block, EntryKind kind, const Emitter& emitter, bool may_use_x87);

 private:
  // Part of the arrays below. Addresses of the guest's in its code are at least `lowest` and at
  // most `highest` from the block's own.
  struct Part {
    std::uint32_t first, count;
  };
  struct Entry {
    std::uint32_t pc;  // where it was translated
    std::int32_t lowest, highest;
    std::uint32_t next;  // of the same key
    Part guest, host, exits, recovery, addresses;
    std::uint32_t entry;
    EntryKind kind;
    bool may_use_x87;
  };
  struct Exit {
    std::uint32_t offset;
    std::int32_t distance;  // of the target, from the block
  };

  bool Has(const Entry& entry, std::uint64_t pc, std::span<const std::uint8_t> bytes,
           EntryKind kind) const;
  Kept Move(const Entry& entry, std::uint64_t pc, Moved& moved) const;
  bool HasRoom(const Block& block, const Emitter& emitter) const;

  mutable std::mutex mutex_;                                 // guards index_, and adding
  absl::flat_hash_map<std::uint64_t, std::uint32_t> index_;  // by the hash of the first bytes
  StableArray<Entry> entries_;
  StableArray<std::uint8_t> bytes_;  // the guest's, and the host's
  StableArray<Exit> exits_;
  StableArray<Recovery> recoveries_;
  StableArray<AddressSite> addresses_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_BLOCK_STORE_H_
