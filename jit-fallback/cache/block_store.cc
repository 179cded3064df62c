#include "jit-fallback/cache/block_store.h"

#include <algorithm>
#include <atomic>

#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

constexpr std::uint32_t kNoEntry = 0xffff'ffff;
// Of one key: guests may have thought them out.
constexpr unsigned kMostOfKey = 8;

template <typename T>
std::span<const T> All(const StableArray<T>& array) {
  const std::uint32_t size = array.size();
  return size == 0 ? std::span<const T>() : std::span(&array[0], size);
}

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

BlockStore::BlockStore(std::uint32_t most_blocks)
    : entries_(most_blocks),
      bytes_(most_blocks * 256),
      exits_(most_blocks * 4),
      recoveries_(most_blocks * 16),
      addresses_(most_blocks * 4) {
  constexpr std::size_t kBlocksOfAStart = 1 << 12;  // a C library's and a small plugin's
  index_.reserve(kBlocksOfAStart);
}

KeptArrays BlockStore::arrays() const {
  return {.bytes = All(bytes_), .exits = All(exits_), .recoveries = All(recoveries_), .addresses = All(addresses_)};
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
  if (number == kNoEntry) return std::nullopt;
  // What has been added does not change any more.
  const KeptArrays kept = arrays();
  for (; number != kNoEntry; number = entries_[number].next) {
    const KeptBlock& block = entries_[number].block;
    if (IsAt(block, kept, pc, bytes, kind)) return MoveTo(pc, block, kept, moved);
  }
  return std::nullopt;
}

bool BlockStore::IsReserved() const {
  return entries_.is_reserved() && bytes_.is_reserved() && exits_.is_reserved() &&
         recoveries_.is_reserved() && addresses_.is_reserved();
}

bool BlockStore::HasRoom(const Block& block, const Emitter& emitter) const {
  return entries_.room() != 0 && bytes_.room() >= block.length + emitter.code().size() &&
         exits_.room() >= emitter.exits().size() &&
         recoveries_.room() >= emitter.recovery().size() &&
         addresses_.room() >= emitter.addresses().size();
}

void BlockStore::Add(const Block& block, EntryKind kind, const Emitter& emitter, bool may_use_x87) {
  const auto is_near = [&](const ExitSite& exit) { return FitsSigned32(exit.target - block.pc); };
  if (!emitter.can_move() || block.bytes.size() < kKeyBytes || block.length == 0 ||
      !std::ranges::all_of(emitter.exits(), is_near)) {
    return;
  }
  const std::uint64_t key = KeyOf(block.bytes, kind);
  const std::lock_guard lock(mutex_);
  if (!IsReserved() || !HasRoom(block, emitter)) return;
  const auto [place, is_new] = index_.try_emplace(key, kNoEntry);
  unsigned others = 0;
  const KeptArrays kept = arrays();
  for (std::uint32_t number = place->second; number != kNoEntry; number = entries_[number].next) {
    // Another thread was faster, or it lies where the one that there is cannot be moved to.
    if (++others == kMostOfKey || IsAt(entries_[number].block, kept, block.pc, block.bytes, kind)) {
      return;
    }
  }
  const auto append = [](auto& array, auto values) {
    const KeptPart part{array.size(), static_cast<std::uint32_t>(values.size())};
    array.AppendAll(values);
    return part;
  };
  KeptPart exits{exits_.size(), 0};
  for (const ExitSite& exit : emitter.exits()) {
    exits_.Append({exit.offset, static_cast<std::int32_t>(exit.target - block.pc)});
    ++exits.count;
  }
  const Entry entry{.block = {.pc = static_cast<std::uint32_t>(block.pc),
                              .lowest = emitter.lowest_address(),
                              .highest = emitter.highest_address(),
                              .guest = append(bytes_, block.bytes.first(block.length)),
                              .host = append(bytes_, emitter.code()),
                              .exits = exits,
                              .recovery = append(recoveries_, std::span(emitter.recovery())),
                              .addresses = append(addresses_, std::span(emitter.addresses())),
                              .entry = emitter.entry(),
                              .kind = kind,
                              .may_use_x87 = may_use_x87,
                              .zero = 0},
                    .next = place->second,
                    .key = key};
  place->second = entries_.Append(entry);
}

}  // namespace dunebox::jit
