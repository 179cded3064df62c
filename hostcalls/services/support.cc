#include "hostcalls/services/support.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace dunebox::hostcalls {

bool IsOwnTask(pid_t id) { return id > 0 && tgkill(getpid(), id, 0) == 0; }

SyscallResult CopyInExtensible(const GuestMemory& memory, std::uint64_t address, std::uint64_t size,
                               std::uint64_t smallest, std::span<std::byte> to) {
  if (size < smallest) return Errno{EINVAL};
  if (size > kPageSize) return Errno{E2BIG};
  std::vector<std::byte> copy(size);
  if (!memory.Read(address, copy)) return Errno{EFAULT};
  const std::size_t known = std::min<std::size_t>(size, to.size());
  const auto tail = std::span(copy).subspan(known);
  if (std::any_of(tail.begin(), tail.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
    return Errno{E2BIG};
  }
  std::fill(to.begin(), to.end(), std::byte{0});
  std::copy_n(copy.begin(), known, to.begin());
  return kSuccess;
}

}  // namespace dunebox::hostcalls
