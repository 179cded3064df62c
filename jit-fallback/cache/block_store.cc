#include "jit-fallback/cache/block_store.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

constexpr std::uint32_t kMostBlocks = 1 << 14;  // 8 MiB with all that belongs to them
constexpr std::uint32_t kNoEntry = 0xffff'ffff;
// Blocks are looked for by so many bytes, of which they may have fewer.
constexpr std::size_t kKeyBytes = 32;
// Of one key: guests may have thought them out.
constexpr unsigned kMostOfKey = 8;

std::uint64_t KeyOf(std::span<const std::uint8_t> bytes, EntryKind kind) {
  std::array<std::uint64_t, kKeyBytes / sizeof(std::uint64_t)> words;
  std::memcpy(words.data(), bytes.data(), kKeyBytes);
  constexpr std::uint64_t kOdd = 0x9e37'79b9'7f4a'7c15;
  auto key = static_cast<std::uint64_t>(kind) + 1;
  for (const std::uint64_t word : words) {
    key = (key ^ word) * kOdd;
    key ^= key >> 32;
  }
  return key;
}

template <typename T>
std::span<const T> SpanOf(const StableArray<T>& array, std::uint32_t first, std::uint32_t count) {
  return count == 0 ? std::span<const T>() : std::span(&array[first], count);
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

BlockStore::BlockStore()
    : entries_(kMostBlocks),
      bytes_(kMostBlocks * 192),
      exits_(kMostBlocks * 4),
      recoveries_(kMostBlocks * 8),
      addresses_(kMostBlocks * 4) {
  constexpr std::size_t kBlocksOfAStart = 1 << 12;  // a C library's and a small plugin's
  index_.reserve(kBlocksOfAStart);
}

bool BlockStore::Has(const Entry& entry, std::uint64_t pc, std::span<const std::uint8_t> bytes,
                     EntryKind kind) const {
  if (entry.kind != kind || entry.guest.count > bytes.size() ||
      std::memcmp(&bytes_[entry.guest.first], bytes.data(), entry.guest.count) != 0) {
    return false;
  }
  const auto at = static_cast<std::int64_t>(pc);
  return at + entry.lowest >= 0 && at + entry.highest < static_cast<std::int64_t>(kLow2GiB);
}

BlockStore::Kept BlockStore::Move(const Entry& entry, std::uint64_t pc, Moved& moved) const {
  const std::span code = SpanOf(bytes_, entry.host.first, entry.host.count);
  moved.code.assign(code.begin(), code.end());
  const auto distance = static_cast<std::uint32_t>(pc - entry.pc);
  for (const AddressSite& site : SpanOf(addresses_, entry.addresses.first, entry.addresses.count)) {
    std::uint32_t value;
    std::memcpy(&value, moved.code.data() + site.offset, sizeof(value));
    value += site.is_negative ? ~distance + 1 : distance;
    std::memcpy(moved.code.data() + site.offset, &value, sizeof(value));
  }
  moved.exits.clear();
  for (const Exit& exit : SpanOf(exits_, entry.exits.first, entry.exits.count)) {
    moved.exits.push_back(
        {exit.offset, pc + static_cast<std::uint64_t>(std::int64_t{exit.distance})});
  }
  return {.length = entry.guest.count,
          .may_use_x87 = entry.may_use_x87,
          .emitted = {.code = moved.code,
                      .entry = entry.entry,
                      .exits = moved.exits,
                      .recovery = SpanOf(recoveries_, entry.recovery.first, entry.recovery.count)}};
}

std::optional<BlockStore::Kept> BlockStore::Find(std::uint64_t pc,
                                                 std::span<const std::uint8_t> bytes,
                                                 EntryKind kind, Moved& moved) const {
  if (bytes.size() < kKeyBytes || pc >= kLow2GiB) return std::nullopt;
  std::uint32_t number = kNoEntry;
  {
    const std::uint64_t key = KeyOf(bytes, kind);
    const std::lock_guard lock(mutex_);
    if (const auto found = index_.find(key); found != index_.end()) number = found->second;
  }
  // What has been added does not change any more.
  for (; number != kNoEntry; number = entries_[number].next) {
    const Entry& entry = entries_[number];
    if (Has(entry, pc, bytes, kind)) return Move(entry, pc, moved);
  }
  return std::nullopt;
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
  if (!entries_.is_reserved() || !bytes_.is_reserved() || !exits_.is_reserved() ||
      !recoveries_.is_reserved() || !addresses_.is_reserved() || !HasRoom(block, emitter)) {
    return;
  }
  const auto [place, is_new] = index_.try_emplace(key, kNoEntry);
  unsigned others = 0;
  for (std::uint32_t number = place->second; number != kNoEntry; number = entries_[number].next) {
    // Another thread was faster, or it lies where the one that there is cannot be moved to.
    if (++others == kMostOfKey || Has(entries_[number], block.pc, block.bytes, kind)) return;
  }
  const auto append = [](auto& array, auto values) {
    const Part part{array.size(), static_cast<std::uint32_t>(values.size())};
    array.AppendAll(values);
    return part;
  };
  Part exits{exits_.size(), 0};
  for (const ExitSite& exit : emitter.exits()) {
    exits_.Append({exit.offset, static_cast<std::int32_t>(exit.target - block.pc)});
    ++exits.count;
  }
  const Entry entry{.pc = static_cast<std::uint32_t>(block.pc),
                    .lowest = emitter.lowest_address(),
                    .highest = emitter.highest_address(),
                    .next = place->second,
                    .guest = append(bytes_, block.bytes.first(block.length)),
                    .host = append(bytes_, emitter.code()),
                    .exits = exits,
                    .recovery = append(recoveries_, std::span(emitter.recovery())),
                    .addresses = append(addresses_, std::span(emitter.addresses())),
                    .entry = emitter.entry(),
                    .kind = kind,
                    .may_use_x87 = may_use_x87};
  place->second = entries_.Append(entry);
}

}  // namespace dunebox::jit
