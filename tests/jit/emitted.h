// Guest bytes through Translate and Emit, for tests that look at the host code.
#ifndef DUNEBOX_TESTS_JIT_EMITTED_H_
#define DUNEBOX_TESTS_JIT_EMITTED_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/translate/block.h"

namespace dunebox::jit {

// "48 8b 05" and back.
inline std::vector<std::uint8_t> FromHex(std::string_view text) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t at = 0; at + 1 < text.size(); at += 3) {
    bytes.push_back(
        static_cast<std::uint8_t>(std::stoul(std::string(text.substr(at, 2)), nullptr, 16)));
  }
  return bytes;
}

inline std::string ToHex(std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    if (!text.empty()) text += ' ';
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

struct Emitted {
  static constexpr std::uint64_t kHost = 0x7f00'0000'0000;

  std::vector<std::uint8_t> guest;
  Block block;
  Emitter emitter;

  Emitted(std::uint64_t pc, std::string_view guest_bytes, const EmitterOptions& options,
          EntryKind kind = EntryKind::kDirect, const Limits& limits = {},
          std::uint64_t host = kHost)
      : guest(FromHex(guest_bytes)), emitter(options) {
    Translate(pc, guest, limits, block);
    if (!block.steps.empty()) emitter.Emit(block, kind, host);
  }
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_EMITTED_H_
