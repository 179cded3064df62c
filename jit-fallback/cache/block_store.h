// Translations that translators of a process have in common whose guests are at different
// addresses (kept_blocks.h). A dynamic linker and a C library are translated once, however many
// sandboxes begin with them; and what goes into a file of prepared translations is put together here.
//
// What is kept is the host's, no guest can reach it, and it stays as long as the store does; when
// there is no room left, nothing is added.
//
//   if (const auto found = store.Find(pc, bytes, kind, moved)) cache.Add(block, kind,
//   found->emitted); else store.Add(block, kind, emitter, MayUseX87(block));
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_BLOCK_STORE_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_BLOCK_STORE_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "jit-fallback/cache/kept_blocks.h"
#include "jit-fallback/cache/stable_array.h"
#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

class BlockStore {
 public:
  // The one of all translators in this process whose emitters have such options, which are of
  // windows; null: code of such is not kept. The first to ask has none either: to keep what it makes
  // would be a fifth of a first sandbox's time, and most processes have no second.
  static BlockStore* ForProcess(const EmitterOptions& options);

  static constexpr std::uint32_t kDefaultBlocks = 1 << 14;  // 8 MiB with all that belongs to them
  explicit BlockStore(std::uint32_t most_blocks = kDefaultBlocks);

  // The block that begins with the first of `bytes`, at `pc`. What is found lies in `moved` and in
  // the store.
  std::optional<FoundBlock> Find(std::uint64_t pc, std::span<const std::uint8_t> bytes,
                                 EntryKind kind, MovedCode& moved) const;
  // What the emitter has just made of the block, if it can be moved and there is room. Not of one
  // that checks itself or is executed once. The block's bytes are a copy that no guest can change.
  void Add(const Block& block, EntryKind kind, const Emitter& emitter, bool may_use_x87);

  // All that there is; no other thread adds.
  std::uint32_t size() const { return entries_.size(); }
  KeptBlock block(std::uint32_t number) const;
  std::uint64_t key(std::uint32_t number) const { return entries_[number].key; }

 private:
  struct Entry {
    std::uint32_t record;  // where it begins
    std::uint32_t next;    // of the same key
    std::uint64_t key;
  };

  mutable std::mutex mutex_;                                 // guards index_, and adding
  absl::flat_hash_map<std::uint64_t, std::uint32_t> index_;  // by the hash of the first bytes
  StableArray<Entry> entries_;
  StableArray<std::uint8_t> records_;
  std::vector<std::uint8_t> record_;  // for Add
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_BLOCK_STORE_H_
