#include "jit-fallback/cache/kept_blocks.h"

#include <array>
#include <cstring>

#include "jit-fallback/emit/encoding.h"

namespace dunebox::jit {
namespace {

template <typename T>
std::span<const T> Of(std::span<const T> array, const KeptPart& part) {
  return array.subspan(part.first, part.count);
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

bool IsAt(const KeptBlock& block, const KeptArrays& arrays, std::uint64_t pc,
          std::span<const std::uint8_t> bytes, EntryKind kind) {
  if (block.kind != kind || block.guest.count > bytes.size() ||
      std::memcmp(Of(arrays.bytes, block.guest).data(), bytes.data(), block.guest.count) != 0) {
    return false;
  }
  const auto at = static_cast<std::int64_t>(pc);
  return at + block.lowest >= 0 && at + block.highest < static_cast<std::int64_t>(kLow2GiB);
}

FoundBlock MoveTo(std::uint64_t pc, const KeptBlock& block, const KeptArrays& arrays,
                  MovedCode& moved) {
  const std::span code = Of(arrays.bytes, block.host);
  moved.code.assign(code.begin(), code.end());
  const auto distance = static_cast<std::uint32_t>(pc - block.pc);
  moved.addresses.clear();
  for (const AddressSite& site : Of(arrays.addresses, block.addresses)) {
    std::uint32_t value;
    std::memcpy(&value, moved.code.data() + site.offset, sizeof(value));
    value += site.is_negative ? ~distance + 1 : distance;
    std::memcpy(moved.code.data() + site.offset, &value, sizeof(value));
    if (!site.is_negative) moved.addresses.push_back(value);
  }
  moved.exits.clear();
  for (const KeptExit& exit : Of(arrays.exits, block.exits)) {
    moved.exits.push_back(
        {exit.offset, pc + static_cast<std::uint64_t>(std::int64_t{exit.distance})});
  }
  return {.length = block.guest.count,
          .may_use_x87 = block.may_use_x87,
          .emitted = {.code = moved.code,
                      .entry = block.entry,
                      .exits = moved.exits,
                      .recovery = Of(arrays.recoveries, block.recovery)}};
}

}  // namespace dunebox::jit
