// Blocks of guests as they themselves have them: what translations are prepared from
// (prepared_blocks.h). Records, one behind the other: which entry, how many bytes, and these. What
// is behind a block's own bytes is there, too, as far as it is looked for by it (kKeyBytes).
//
// A record says nothing of where the bytes were, and may be of bytes that no program has: what is
// made of them is right wherever they are found.
//
//   AppendGuestCode(EntryKind::kDirect, bytes, text);
//   absl::Status status = ForEachGuestCode(text, [](EntryKind kind, auto bytes) { ... });
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_GUEST_CODE_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_GUEST_CODE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

inline constexpr std::size_t kMostGuestCode = 512;  // bytes of a record's block

// Preconditions: at most kMostGuestCode bytes.
void AppendGuestCode(EntryKind kind, std::span<const std::uint8_t> bytes, std::string& records);

// kDataLoss: something else is among the records; `use` has had those in front of it.
absl::Status ForEachGuestCode(
    std::string_view records,
    absl::FunctionRef<void(EntryKind kind, std::span<const std::uint8_t> bytes)> use);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_GUEST_CODE_H_
