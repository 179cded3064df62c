#include "sandbox/plugin/window.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "hostcalls/memory/mappable.h"
#include "jit-fallback/emit/isolation.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace dunebox::plugin {
namespace {

constexpr std::uint64_t kSize = std::uint64_t{1} << 32;
// Each window has guards of its own, so they lie at every second multiple of their size.
constexpr std::uint64_t kStep = 2 * kSize;
constexpr std::uint64_t kReserved = kSize + 2 * jit::kWindowGuard;
constexpr int kAttempts = 256;

void* Start(std::uint64_t base) { return reinterpret_cast<void*>(base - jit::kWindowGuard); }

}  // namespace

absl::StatusOr<ReservedWindow> ReservedWindow::Create() {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
      return absl::UnavailableError("getrandom failed");
    }
    // Not the first, where programs that are not position-independent lie.
    const std::uint64_t base = (1 + random % (kMappableEnd / kStep - 1)) * kStep;
    void* const got = mmap(Start(base), kReserved, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == Start(base)) return ReservedWindow(base);
    if (got == MAP_FAILED && errno != EEXIST) {
      return absl::ResourceExhaustedError(
          absl::ErrnoToStatus(errno, "no addresses for a sandbox's window").message());
    }
    if (got != MAP_FAILED) munmap(got, kReserved);  // a kernel that does not know the flag
  }
  return absl::ResourceExhaustedError("no addresses for a sandbox's window");
}

ReservedWindow::~ReservedWindow() {
  if (base_ != 0) munmap(Start(base_), kReserved);
}

}  // namespace dunebox::plugin
