#include "hostcalls/services/poll.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

#include "hostcalls/services/limits.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

// Never open: above every limit that the kernel accepts. Negative ones are skipped by poll().
constexpr int kNotOpen = std::numeric_limits<int>::max();

// The error that the kernel gives for a call that a signal has ended; it has written its array.
bool HasAnswer(SyscallResult result) { return result.ok() || result.error() == EINTR; }

}  // namespace

SyscallResult PollSet::CopyIn(std::uint64_t address, std::uint64_t count) {
  count = static_cast<std::uint32_t>(count);
  if (count > caller_.limits.Get(RLIMIT_NOFILE).rlim_cur) return Errno{EINVAL};
  address_ = address;
  entries_.resize(count);
  if (count == 0) return kSuccess;
  if (!caller_.memory.Read(address, std::as_writable_bytes(std::span(entries_)))) {
    return Errno{EFAULT};
  }
  for (pollfd& entry : entries_) {
    if (caller_.reserved.Contains(static_cast<std::uint64_t>(entry.fd))) entry.fd = kNotOpen;
  }
  kernels_ = staged_.PlaceAll(std::span(entries_));
  return kSuccess;
}

ArgumentValues PollSet::Replace(ArgumentValues arguments) const {
  arguments[0] = AsArgument(kernels_.data());
  arguments[1] = kernels_.size();
  return arguments;
}

SyscallResult PollSet::CopyOut(SyscallResult result) const {
  if (!HasAnswer(result)) return result;
  for (std::size_t i = 0; i < kernels_.size(); ++i) {
    const std::uint64_t to = address_ + i * sizeof(pollfd) + offsetof(pollfd, revents);
    if (!caller_.memory.Write(to, std::as_bytes(std::span(&kernels_[i].revents, 1)))) {
      return Errno{EFAULT};
    }
  }
  return result;
}

SyscallResult LimitSelect(const Caller& caller, ArgumentValues& arguments) {
  constexpr std::size_t kSets[] = {1, 2, 3};
  const int count = AsInt(arguments[0]);
  const int first = caller.reserved.first;
  if (count <= first) return kSuccess;
  const int end = std::min(count, first + caller.reserved.count);
  for (const std::size_t set : kSets) {
    if (arguments[set] == 0) continue;
    for (int bit = first; bit < end; ++bit) {
      std::byte byte{};
      const std::uint64_t from = arguments[set] + static_cast<std::uint64_t>(bit) / 8;
      if (!caller.memory.Read(from, std::span(&byte, 1))) return Errno{EFAULT};
      if ((byte & std::byte{1} << (bit % 8)) != std::byte{0}) return Errno{EBADF};
    }
  }
  // The kernel ignores what is above the table's size as well.
  arguments[0] = AsArgument(first);
  return kSuccess;
}

SyscallResult HandlePoll(Caller& caller, const ArgumentValues& arguments) {
  PollSet set(caller);
  const SyscallResult copied = set.CopyIn(arguments[0], arguments[1]);
  if (!copied.ok()) return copied;
  return set.CopyOut(HostCall(caller, SYS_poll, set.Replace(arguments)));
}

SyscallResult HandleSelect(Caller& caller, const ArgumentValues& arguments) {
  ArgumentValues limited = arguments;
  const SyscallResult checked = LimitSelect(caller, limited);
  if (!checked.ok()) return checked;
  return HostCall(caller, SYS_select, limited);
}

void RegisterPollHandlers(HandlerTable& handlers) {
  handlers.Bind("poll", HandlePoll);
  handlers.Bind("select", HandleSelect);
}

}  // namespace dunebox::hostcalls
