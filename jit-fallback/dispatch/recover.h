// From the registers at an address in translated code to the guest's.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_RECOVER_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_RECOVER_H_

#include <array>
#include <cstdint>

#include "jit-fallback/cache/code_cache.h"
#include "jit-fallback/dispatch/context.h"

namespace dunebox::jit {

// Makes `gpr`, which are the CPU's where `recovered` was found, what the guest has in them. Returns
// where the guest is. Async-signal-safe.
std::uint64_t RestoreGuest(const Recovered& recovered, const Context& context,
                           std::array<std::uint64_t, 16>& gpr);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_RECOVER_H_
