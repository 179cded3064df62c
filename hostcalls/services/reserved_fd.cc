#include "hostcalls/services/reserved_fd.h"

#include <algorithm>

namespace dunebox::hostcalls {
namespace {

// More make every fork() copy a longer table, so who needs them has to say so.
constexpr rlim_t kUsualGuestDescriptors = 4096;
// vCPUs (1,024 at most), pinned paths (one a thread), and some for the rest.
constexpr rlim_t kMostReserved = 4096;

}  // namespace

ReservedDescriptors ChooseReservedDescriptors(const rlimit& host, rlim_t wanted) {
  const rlim_t count = std::min(kMostReserved, host.rlim_max / 4);
  const rlim_t first = std::min(std::max(kUsualGuestDescriptors, wanted), host.rlim_max - count);
  return {.first = static_cast<int>(first), .count = static_cast<int>(count)};
}

ReservedDescriptors DefaultReservedDescriptors(rlim_t wanted) {
  rlimit host{};
  getrlimit(RLIMIT_NOFILE, &host);
  return ChooseReservedDescriptors(host, wanted);
}

}  // namespace dunebox::hostcalls
