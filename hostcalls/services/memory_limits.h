// The limits of a process on its memory that the runtime keeps in the kernel's place, because the kernel would count the
// runtime's memory, too: RLIMIT_AS and RLIMIT_DATA, the soft ones. VirtualLimits changes them, whoever maps memory for the
// program reads them each time.
#ifndef DUNEBOX_HOSTCALLS_SERVICES_MEMORY_LIMITS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_MEMORY_LIMITS_H_

#include <atomic>
#include <cstdint>

namespace dunebox::hostcalls {

struct MemoryLimits {
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};  // RLIM_INFINITY
  std::atomic<std::uint64_t> all{kNone};   // bytes of addresses
  std::atomic<std::uint64_t> data{kNone};  // private and writable

  bool any() const { return all.load() != kNone || data.load() != kNone; }
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_MEMORY_LIMITS_H_
