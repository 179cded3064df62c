#include "jit-fallback/cache/block_store.h"

#include <algorithm>
#include <atomic>

#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

constexpr std::uint32_t kNoEntry = 0xffff'ffff;
// Of one key: guests may have thought them out.
constexpr unsigned kMostOfKey = 8;

}  // namespace

BlockStore* BlockStore::ForProcess(const EmitterOptions& options) {
  if (options.isolation != Isolation::kSeg || options.map_target || options.runs_in_place)
    return nullptr;
  static std::atomic<bool> was_asked{false};
  if (!was_asked.exchange(true)) return nullptr;
  // Never destroyed: threads may outlive main.
  if (options.counts_instructions) {
    static auto* const counted = new BlockStore;
    return counted;
  }
  static auto* const plain = new BlockStore;
  return plain;
}

BlockStore::BlockStore(std::uint32_t most_blocks) : entries_(most_blocks), records_(most_blocks * 480) {
  constexpr std::size_t kBlocksOfAStart = 1 << 12;  // a C library's and a small plugin's
  index_.reserve(kBlocksOfAStart);
}

KeptBlock BlockStore::block(std::uint32_t number) const {
  return *KeptBlock::In({&records_[0], records_.size()}, entries_[number].record);
}

std::optional<FoundBlock> BlockStore::Find(std::uint64_t pc, std::span<const std::uint8_t> bytes,
                                           EntryKind kind, MovedCode& moved) const {
  if (bytes.size() < kKeyBytes || pc >= kLow2GiB) return std::nullopt;
  std::uint32_t number = kNoEntry;
  {
    const std::uint64_t key = KeyOf(bytes, kind);
    const std::lock_guard lock(mutex_);
    if (const auto found = index_.find(key); found != index_.end()) number = found->second;
  }
  // What has been added does not change any more.
  for (; number != kNoEntry; number = entries_[number].next) {
    if (const KeptBlock kept = block(number); kept.IsAt(pc, bytes, kind)) return kept.MoveTo(pc, moved);
  }
  return std::nullopt;
}

void BlockStore::Add(const Block& block, EntryKind kind, const Emitter& emitter, bool may_use_x87) {
  const auto is_near = [&](const ExitSite& exit) { return FitsSigned32(exit.target - block.pc); };
  if (!emitter.can_move() || block.bytes.size() < kKeyBytes || block.length == 0 ||
      block.length > KeptBlock::kMostBytes || emitter.code().size() > KeptBlock::kMostBytes ||
      !std::ranges::all_of(emitter.exits(), is_near)) {
    return;
  }
  const std::uint64_t key = KeyOf(block.bytes, kind);
  const std::lock_guard lock(mutex_);
  if (!entries_.is_reserved() || !records_.is_reserved() || entries_.room() == 0) return;
  const auto found = index_.find(key);
  const std::uint32_t next = found == index_.end() ? kNoEntry : found->second;
  unsigned others = 0;
  for (std::uint32_t number = next; number != kNoEntry; number = entries_[number].next) {
    // Another thread was faster, or it lies where the one that there is cannot be moved to.
    if (++others == kMostOfKey || this->block(number).IsAt(block.pc, block.bytes, kind)) return;
  }
  KeptBlock::Write(block, kind, emitter, may_use_x87, record_);
  if (records_.room() < record_.size()) return;
  const std::uint32_t record = records_.size();
  records_.AppendAll(record_);
  index_[key] = entries_.Append({.record = record, .next = next, .key = key});
}

}  // namespace dunebox::jit
