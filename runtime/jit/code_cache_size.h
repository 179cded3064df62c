// How much room a session's translated code has, with its exits.
#ifndef DUNEBOX_RUNTIME_JIT_CODE_CACHE_SIZE_H_
#define DUNEBOX_RUNTIME_JIT_CODE_CACHE_SIZE_H_

#include <cstddef>

namespace dunebox::runtime {

// In MiB of address space, used as it is needed: unless it is told otherwise, and what it can be told.
inline constexpr unsigned kDefaultJitCache = 256, kLeastJitCache = 1, kMostJitCache = 1024;
inline constexpr std::size_t kDefaultJitCacheBytes = std::size_t{kDefaultJitCache} << 20;

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_CODE_CACHE_SIZE_H_
