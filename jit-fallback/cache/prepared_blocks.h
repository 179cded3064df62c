// Translations in a file, made ahead (`dunebox prepare`), which processes map and take from: a
// program then starts without translating what most programs begin with. [Bruening and Kiriansky,
// "Process-shared and persistent code caches", VEE 2008; here no address and no file name has to be
// the same, since blocks are found by their bytes (kept_blocks.h).]
//
// Whoever can write the file can execute code outside of every sandbox: it is to be trusted as the
// executable is (runtime/jit/prepared_file.h says by whom it may be). What is looked at here is
// that it was made by this version of the translator, for such options and this processor; and, for
// each block that is used, a checksum, since disks fail. It must not be changed while it is open:
// who makes a new one puts it in the place of the old.
//
//   std::string file = PreparedFile(store, options);
//   absl::StatusOr<std::unique_ptr<PreparedBlocks>> blocks = PreparedBlocks::Open(fd, options);
//   if (const auto found = (*blocks)->Find(pc, bytes, kind, moved)) ...
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_PREPARED_BLOCKS_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_PREPARED_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "jit-fallback/cache/block_store.h"
#include "jit-fallback/cache/kept_blocks.h"
#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

// Another number when anything of the translator is another (translator_identity.cmake).
extern const std::uint64_t kTranslatorIdentity;

// What a file of the store's blocks has in it. Their emitter had such options.
std::string PreparedFile(const BlockStore& store, const EmitterOptions& options);

class PreparedBlocks {
 public:
  // kFailedPrecondition: made by another version, for another isolation or another processor;
  // kDataLoss: not whole. Takes no ownership of `fd`, which may be closed then.
  static absl::StatusOr<std::unique_ptr<PreparedBlocks>> Open(int fd, const EmitterOptions& options);
  ~PreparedBlocks();
  PreparedBlocks(const PreparedBlocks&) = delete;
  PreparedBlocks& operator=(const PreparedBlocks&) = delete;

  std::uint32_t size() const { return size_; }

  // As of BlockStore. Thread-safe.
  std::optional<FoundBlock> Find(std::uint64_t pc, std::span<const std::uint8_t> bytes,
                                 EntryKind kind, MovedCode& moved) const;

 private:
  friend std::string PreparedFile(const BlockStore& store, const EmitterOptions& options);
  struct Header;
  // Open addressing: the block of a key is in the slot that the key says, or in the next that is
  // not taken.
  struct Slot {
    std::uint32_t tag;     // the key's upper half
    std::uint32_t record;  // where it begins, in units of KeptBlock::kAlignment, from 1 on; 0: there is none
  };

  explicit PreparedBlocks(std::span<const std::byte> file) : file_(file) {}
  static Header HeaderFor(const EmitterOptions& options);
  absl::Status Read(const EmitterOptions& options);
  template <typename T>
  bool Take(std::size_t& at, std::uint64_t count, std::span<const T>& array) const;

  const std::span<const std::byte> file_;
  std::span<const Slot> slots_;  // a power of two of them
  std::span<const std::uint8_t> records_;
  std::uint32_t size_ = 0;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_PREPARED_BLOCKS_H_
