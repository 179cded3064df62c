// How often a limit has refused the calling thread memory: what keeps one counts here, and who has asked it on behalf of
// somebody can tell its ENOMEM from others.
//
//   const std::uint64_t before = refusals;
//   const SyscallResult result = space.Map(request);
//   if (refusals != before) ...
#ifndef DUNEBOX_RUNTIME_MEMORY_REFUSALS_H_
#define DUNEBOX_RUNTIME_MEMORY_REFUSALS_H_

#include <cstdint>

namespace dunebox::memory {

inline constinit thread_local std::uint64_t refusals = 0;

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_REFUSALS_H_
