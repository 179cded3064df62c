// The descriptors of the runtime, out of the guest's reach. [DESIGN D10]
//
// A whole program shares the kernel's descriptor table with the runtime. The runtime's numbers lie
// in one range above every soft RLIMIT_NOFILE the guest can have, so the kernel itself never gives
// the guest such a number and refuses dup2() there; the dispatcher refuses them as arguments. They
// are made by VirtualLimits (limits.h), which alone can raise the soft limit for a moment.
//
//   absl::StatusOr<ReservedFd> copy = limits.DuplicateToReserved(STDERR_FILENO);
#ifndef DUNEBOX_HOSTCALLS_SERVICES_RESERVED_FD_H_
#define DUNEBOX_HOSTCALLS_SERVICES_RESERVED_FD_H_

#include <sys/resource.h>
#include <unistd.h>

#include <utility>

#include "hostcalls/dispatch/caller.h"

namespace dunebox::hostcalls {

// Owns one descriptor of the range; closes it.
class ReservedFd {
 public:
  ReservedFd() = default;
  explicit ReservedFd(int fd) : fd_(fd) {}
  ReservedFd(ReservedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ReservedFd& operator=(ReservedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~ReservedFd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// The first numbers of the range have a fixed meaning, so that a fork needs no bookkeeping: the
// child inherits them where they are. VirtualLimits::Install fills them.
enum class ReservedSlot : unsigned char {
  kRoot,        // O_PATH, the root directory; after a chroot() of the guest's, no directory at all
  kProc,        // O_PATH, the root of procfs
  kExecutable,  // O_PATH, the program's file: what /proc/self/exe leads to, even when its name is
                // gone
  kDescriptors,  // O_PATH, where procfs has one thread's descriptors: VirtualLimits::DescriptorsOf
};
inline constexpr int kFixedSlots = 8;

constexpr int NumberOf(ReservedSlot slot, ReservedDescriptors reserved) {
  return reserved.first + static_cast<int>(slot);
}

// Where the range lies under a host limit: above 4,096 numbers for the guest, or those that it wants
// where these are more, when the host has as many. Pure.
ReservedDescriptors ChooseReservedDescriptors(const rlimit& host, rlim_t wanted = 0);
// The same for this process's own hard limit.
ReservedDescriptors DefaultReservedDescriptors(rlim_t wanted = 0);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_RESERVED_FD_H_
