// How guest code is kept away from the runtime, which lives in the same process. docs/isolation.md
// has the rules that emitted code obeys under each, and tests/security/checker proves them.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_ISOLATION_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_ISOLATION_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace dunebox::jit {

enum class Isolation : std::uint8_t {
  kNone,        // not at all: for comparing costs, and for programs that are trusted anyway
  kPku,         // protection keys close the runtime's memory while guest code runs
  kSeg,         // a window of up to 4 GiB: segment base and 32-bit addresses
  kMask,        // every operand is confined to the user half
  kMaskWrites,  // every store is; weaker: guest code may read the runtime's memory
};

struct IsolationName {
  Isolation isolation;
  std::string_view name;
};
inline constexpr std::array<IsolationName, 5> kIsolationNames = {{{Isolation::kPku, "pku"},
                                                                  {Isolation::kSeg, "seg"},
                                                                  {Isolation::kMask, "mask"},
                                                                  {Isolation::kMaskWrites,
                                                                   "mask-writes"},
                                                                  {Isolation::kNone, "none"}}};

constexpr std::string_view NameOf(Isolation isolation) {
  const auto* row = std::ranges::find(kIsolationNames, isolation, &IsolationName::isolation);
  return row->name;
}

constexpr std::optional<Isolation> IsolationNamed(std::string_view name) {
  const auto* row = std::ranges::find(kIsolationNames, name, &IsolationName::name);
  if (row == kIsolationNames.end()) return std::nullopt;
  return row->isolation;
}

// What has to be unmapped on either side of a window: drift of RSP, displacement and the operand.
inline constexpr std::uint64_t kWindowGuard = 256 * 1024;

constexpr bool IsMask(Isolation isolation) {
  return isolation == Isolation::kMask || isolation == Isolation::kMaskWrites;
}

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_ISOLATION_H_
