// The blocks there are: their code, how they are linked, and what maps host addresses back to the
// guest's. Changed by one thread at a time (the Translator's lock); TargetOfLink and Recover need
// no lock, for threads that have just left translated code.
//
//   std::uint32_t id = cache.Add(block, EntryKind::kDirect, emitter.emitted());
//   cache.LinkTo(link, id);
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_CODE_CACHE_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_CODE_CACHE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "jit-fallback/cache/code_memory.h"
#include "jit-fallback/cache/new_code.h"
#include "jit-fallback/cache/stable_array.h"
#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

inline constexpr std::uint32_t kNone = 0xffff'ffff;

struct CodeBlock {
  std::uint64_t pc;
  const Recovery* recovery;
  std::uint32_t host;            // offset in the code memory
  std::uint32_t first_incoming;  // links that jump here
  std::uint16_t guest_length;
  std::uint16_t host_length;
  std::uint16_t entry;  // from `host`
  std::uint16_t recoveries;
  EntryKind kind;
  bool dead;
};
static_assert(sizeof(CodeBlock) == 40);

// A patchable jump. Its number is its exit stub's too.
struct Link {
  std::uint64_t target;     // guest address
  std::uint32_t patch;      // of the rel32, in the code memory
  std::uint32_t linked_to;  // block; kNone while it goes to its stub
  std::uint32_t next_incoming;
  std::uint32_t source : 31;  // block
  std::uint32_t has_stub : 1;
};
static_assert(sizeof(Link) == 24);

// Where an interrupted guest stands, and where its registers are.
struct Recovered {
  std::uint64_t pc;  // not with kInR11
  RecoveryKind kind;
  std::uint8_t in_slot;
  std::array<std::uint8_t, 2> scratch;
  std::uint16_t confined;
};

struct CacheCounters {
  std::uint64_t blocks = 0, guest_bytes = 0, host_bytes = 0, links = 0, flushes = 0;
  std::uint64_t invalidated = 0;
};

class CodeCache {
 public:
  // `context_prefix` as the Assembler's, for the exit stubs.
  static absl::StatusOr<std::unique_ptr<CodeCache>> Create(std::size_t size,
                                                           std::uint8_t context_prefix);
  // Tells of everything that is written, before anybody can run it. Null: nobody.
  void SetListener(OnNewCode listener) { on_new_code_ = std::move(listener); }

  std::uint64_t start() const { return memory_.address(); }
  std::uint64_t code_end() const { return memory_.address() + stubs_; }
  std::uint64_t end() const { return memory_.address() + memory_.size(); }
  const CacheCounters& counters() const { return counters_; }
  void ResetCounters() { counters_ = {}; }

  // The living block at a guest address; kNone when there is none.
  std::uint32_t Find(std::uint64_t pc, EntryKind kind) const;
  // Where it is entered, and where its first byte is.
  std::uint64_t AddressOf(std::uint32_t block) const {
    return StartOf(block) + blocks_[block].entry;
  }
  std::uint64_t StartOf(std::uint32_t block) const { return start() + blocks_[block].host; }
  const CodeBlock& block(std::uint32_t id) const { return blocks_[id]; }
  std::uint32_t size() const { return blocks_.size(); }
  // The next link's number: those of a block that Add enters come one behind the other, in their exits' order.
  std::uint32_t links() const { return links_.size(); }

  // How often it was emptied.
  std::uint32_t generation() const { return generation_; }
  // The living blocks that indirect jumps may lead to: where in the guest's memory, and in this.
  void ForEachIndirect(absl::FunctionRef<void(std::uint64_t pc, std::uint64_t host)> use) const {
    for (const auto& [pc, id] : indirect_) use(pc, AddressOf(id));
  }

  // Where the next block's code will be, for the emitter.
  std::uint64_t NextAddress() const { return start() + next_; }
  // Enters what an emitter made for NextAddress(), or for a block of the same bytes. kNone when the cache is full: Clear() it.
  std::uint32_t Add(const Block& block, EntryKind kind, const EmittedCode& emitted);
  // Makes the jump go straight to the block.
  void LinkTo(std::uint32_t link, std::uint32_t block);
  // Every jump to the block leaves to the runtime again; it is found no more. Its code stays until
  // Clear(), for threads that are in it.
  void Kill(std::uint32_t block);
  // The living blocks with a byte in [start, end).
  std::vector<std::uint32_t> BlocksIn(std::uint64_t begin, std::uint64_t end) const;
  // Sends all jumps to their stubs, so that every thread leaves soon. They may be linked again.
  void UnlinkAll();
  // Bytes of code, without exit stubs.
  std::size_t used() const { return next_; }
  // In front of every fork.
  void PrepareForFork();
  // In a forked child: another file behind the code memory, with what it holds.
  absl::Status TakeOwnMemory();
  // Forgets everything. Preconditions: no thread is in translated code.
  absl::Status Clear();

  // Without a lock.
  // 0 when there is no such link: the number comes from memory that the guest may write.
  std::uint64_t TargetOfLink(std::uint32_t link) const {
    return link < links_.size() ? links_[link].target : 0;
  }
  std::optional<Recovered> Recover(std::uint64_t host) const;
  // The block whose code contains the host address, dead or alive; kNone.
  std::uint32_t BlockAt(std::uint64_t host) const;

 private:
  static constexpr std::uint32_t kStubSize = 20;
  using Stub = std::array<std::uint8_t, kStubSize>;

  CodeCache(CodeMemory memory, std::uint8_t context_prefix);
  static Stub FirstStub(std::uint8_t context_prefix);
  using Index = absl::flat_hash_map<std::uint64_t, std::uint32_t>;
  Index& IndexOf(EntryKind kind) { return kind == EntryKind::kDirect ? direct_ : indirect_; }
  std::uint32_t StubOf(std::uint32_t link) const;
  void PatchTo(const Link& link, std::uint64_t target);
  void LinkToStub(std::uint32_t link);
  void MakeStub(std::uint32_t link);

  CodeMemory memory_;
  bool may_be_copied_ = false;  // by a forked child, which has the same file until it has its own
  const Stub first_stub_;  // the others differ in their numbers
  const std::uint32_t stubs_;  // offset of the first exit stub, a page's
  GrowingMemory block_memory_, stub_memory_;
  std::uint32_t next_ = 0;
  StableArray<CodeBlock> blocks_;
  StableArray<Link> links_;
  StableArray<Recovery> recoveries_;  // of code that was made here
  Index direct_, indirect_;
  absl::flat_hash_map<std::uint64_t, std::vector<std::uint32_t>> pages_;  // blocks by guest page
  CacheCounters counters_;
  std::uint32_t generation_ = 0;
  OnNewCode on_new_code_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_CODE_CACHE_H_
