#include "jit-fallback/cache/kept_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

constexpr std::size_t AlignUp(std::size_t value) {
  return (value + KeptBlock::kAlignment - 1) / KeptBlock::kAlignment * KeptBlock::kAlignment;
}

template <typename T>
void Put(std::span<const T> values, std::uint8_t* place) {
  std::ranges::copy(std::as_bytes(values), reinterpret_cast<std::byte*>(place));
}

}  // namespace

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

KeptBlock::Places KeptBlock::PlacesOf(const KeptHead& head) {
  Places places{};
  places.exits = sizeof(KeptHead);
  places.recoveries = places.exits + head.exits * sizeof(KeptExit);
  places.addresses = places.recoveries + head.recoveries * sizeof(Recovery);
  places.guest = places.addresses + head.addresses * sizeof(AddressSite);
  places.host = places.guest + head.guest;
  places.end = AlignUp(places.host + head.host);
  return places;
}

std::optional<KeptBlock> KeptBlock::In(std::span<const std::uint8_t> records, std::size_t at) {
  if (at > records.size() || records.size() - at < sizeof(KeptHead)) return std::nullopt;
  const std::uint8_t* const record = records.data() + at;
  const auto& head = *reinterpret_cast<const KeptHead*>(record);
  const Places places = PlacesOf(head);
  if (records.size() - at < places.end || head.guest == 0 || head.host == 0) return std::nullopt;
  return KeptBlock(record, places);
}

bool KeptBlock::IsAt(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind) const {
  if (head().kind != kind || head().guest > bytes.size() ||
      std::memcmp(record_ + places_.guest, bytes.data(), head().guest) != 0) {
    return false;
  }
  const auto at = static_cast<std::int64_t>(pc);
  return at + head().lowest >= 0 && at + head().highest < static_cast<std::int64_t>(kLow2GiB);
}

FoundBlock KeptBlock::MoveTo(std::uint64_t pc, MovedCode& moved) const {
  const auto code = At<std::uint8_t>(places_.host, head().host);
  moved.code.assign(code.begin(), code.end());
  const auto distance = static_cast<std::uint32_t>(pc - head().pc);
  moved.addresses.clear();
  for (const AddressSite& site : At<AddressSite>(places_.addresses, head().addresses)) {
    std::uint32_t value;
    std::memcpy(&value, moved.code.data() + site.offset, sizeof(value));
    value += site.is_negative ? ~distance + 1 : distance;
    std::memcpy(moved.code.data() + site.offset, &value, sizeof(value));
    if (!site.is_negative) moved.addresses.push_back(value);
  }
  moved.exits.clear();
  for (const KeptExit& exit : At<KeptExit>(places_.exits, head().exits)) {
    moved.exits.push_back(
        {exit.offset, pc + static_cast<std::uint64_t>(std::int64_t{exit.distance})});
  }
  return {.length = head().guest,
          .may_use_x87 = head().may_use_x87,
          .emitted = {.code = moved.code,
                      .entry = head().entry,
                      .exits = moved.exits,
                      .recovery = At<Recovery>(places_.recoveries, head().recoveries),
                      .recovery_stays = true}};
}

void KeptBlock::Write(const Block& block, EntryKind kind, const Emitter& emitter, bool may_use_x87,
                      std::vector<std::uint8_t>& record) {
  const KeptHead head{.check = 0,
                      .pc = static_cast<std::uint32_t>(block.pc),
                      .lowest = emitter.lowest_address(),
                      .highest = emitter.highest_address(),
                      .entry = emitter.entry(),
                      .exits = static_cast<std::uint16_t>(emitter.exits().size()),
                      .recoveries = static_cast<std::uint16_t>(emitter.recovery().size()),
                      .addresses = static_cast<std::uint16_t>(emitter.addresses().size()),
                      .guest = static_cast<std::uint16_t>(block.length),
                      .host = static_cast<std::uint16_t>(emitter.code().size()),
                      .kind = kind,
                      .may_use_x87 = may_use_x87};
  const Places places = PlacesOf(head);
  record.assign(places.end, 0);
  Put(std::span(&head, 1), record.data());
  std::uint8_t* place = record.data() + places.exits;
  for (const ExitSite& exit : emitter.exits()) {
    const KeptExit kept{exit.offset, static_cast<std::int32_t>(exit.target - block.pc)};
    Put(std::span(&kept, 1), std::exchange(place, place + sizeof(kept)));
  }
  Put(std::span<const Recovery>(emitter.recovery()), record.data() + places.recoveries);
  Put(std::span<const AddressSite>(emitter.addresses()), record.data() + places.addresses);
  Put(block.bytes.first(block.length), record.data() + places.guest);
  Put(std::span<const std::uint8_t>(emitter.code()), record.data() + places.host);
}

}  // namespace dunebox::jit
