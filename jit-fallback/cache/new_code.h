// What the cache has just been given: a block, or the stub of one of its exits. For whoever keeps a
// record of emitted code.
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_NEW_CODE_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_NEW_CODE_H_

#include <cstdint>
#include <functional>
#include <span>

#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

enum class CodeKind : std::uint8_t {
  kDirectBlock,    // entered by direct jumps
  kIndirectBlock,  // entered through the lookup table
  kIndirectStub,   // the same, and jumps to the direct block
  kExitStub,
};

struct NewCode {
  CodeKind kind;
  bool is_self_checking = false, is_single = false;
  std::uint64_t pc;         // of an exit stub: where the exit leads
  std::uint64_t host;       // of the first byte
  std::uint32_t entry = 0;  // from there
  // Counts how often the cache started over: host addresses are used again.
  std::uint32_t generation;
  std::span<const std::uint8_t> bytes;  // as emitted: exits lead nowhere yet
  std::span<const std::uint8_t> guest;  // of a block: the guest's, and some behind them (kKeyBytes)
  std::span<const ExitSite> exits;
};

using OnNewCode = std::function<void(const NewCode&)>;

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_NEW_CODE_H_
