#include "hostcalls/services/reserved_fd.h"

#include <algorithm>

namespace dunebox::hostcalls {
namespace {

// More would make every fork() copy a longer table; programs that need more are rare.
constexpr rlim_t kMostGuestDescriptors = 4096;
// vCPUs (1,024 at most), pinned paths (one a thread), and some for the rest.
constexpr rlim_t kMostReserved = 4096;

}  // namespace

ReservedDescriptors ChooseReservedDescriptors(const rlimit& host) {
  const rlim_t count = std::min(kMostReserved, host.rlim_max / 4);
  const rlim_t first = std::min(kMostGuestDescriptors, host.rlim_max - count);
  return {.first = static_cast<int>(first), .count = static_cast<int>(count)};
}

ReservedDescriptors DefaultReservedDescriptors() {
  rlimit host{};
  getrlimit(RLIMIT_NOFILE, &host);
  return ChooseReservedDescriptors(host);
}

}  // namespace dunebox::hostcalls
