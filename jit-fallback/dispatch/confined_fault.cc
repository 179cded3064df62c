#include "jit-fallback/dispatch/confined_fault.h"

#include <signal.h>

#include "jit-fallback/dispatch/memory_accesses.h"
#include "jit-fallback/emit/confinement.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kStackFault = 12, kGeneralProtection = 13, kPageFault = 14;
constexpr std::uint64_t kPresent = 1, kWrite = 2, kUser = 4;  // of a page fault's error code

}  // namespace

std::optional<NativeFault> FaultOutsideUserHalf(const Instruction& instruction,
                                                std::span<const std::uint8_t> bytes,
                                                const Context& context) {
  const MemoryAccesses accesses = MemoryAccessesOf(instruction, bytes, AddressRegistersOf(context));
  for (const MemoryAccess& access : accesses.all()) {
    // Near both ends nothing is mapped, and the base that was confined may have been beyond.
    constexpr std::uint64_t kLowest = Confinement::kNear;
    if (access.address >= kLowest && access.address < kUserHalfEnd - kLowest) continue;
    const std::uint64_t high = access.address >> 47;
    constexpr std::uint64_t kKernelHalf = 0x1'ffff;
    if (high != 0 && high != kKernelHalf) {
      return access.is_stack ? NativeFault{kStackFault, 0, 0, SIGBUS, SI_KERNEL}
                             : NativeFault{kGeneralProtection, 0, 0, SIGSEGV, SI_KERNEL};
    }
    const std::uint64_t error =
        kUser | (access.writes ? kWrite : 0) | (high != 0 ? kPresent : 0);
    return NativeFault{kPageFault, error, access.address, SIGSEGV, SEGV_MAPERR};
  }
  return std::nullopt;
}

}  // namespace dunebox::jit
