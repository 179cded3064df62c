// poll and select, and what ppoll and pselect6 share with them: arrays that name descriptors.
//
// A number of the runtime's is to the guest one that is not open: POLLNVAL from poll, EBADF from
// select. epoll needs nothing here: it names one descriptor a call, as an argument.
//
//   PollSet set(caller);
//   if (auto copied = set.CopyIn(a[0], a[1]); !copied.ok()) return copied;
//   return set.CopyOut(HostCall(caller, SYS_poll, set.Replace(a)));
#ifndef DUNEBOX_HOSTCALLS_SERVICES_POLL_H_
#define DUNEBOX_HOSTCALLS_SERVICES_POLL_H_

#include <poll.h>

#include <cstdint>
#include <span>
#include <vector>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// The array of one poll(), copied, so that the guest cannot change a number after it was checked.
class PollSet {
 public:
  explicit PollSet(Caller& caller) : caller_(caller), staged_(caller.staging) {}
  SyscallResult CopyIn(std::uint64_t address, std::uint64_t count);
  // The arguments with our copy in place of the guest's array.
  ArgumentValues Replace(ArgumentValues arguments) const;
  // Gives the guest what the kernel has found; `result` is the call's.
  SyscallResult CopyOut(SyscallResult result) const;

 private:
  const Caller& caller_;
  StagingScope staged_;
  std::uint64_t address_ = 0;
  std::vector<pollfd> entries_;
  std::span<pollfd> kernels_;  // the entries that the kernel gets
};

// Cuts select()'s number of descriptors down to the guest's. EBADF when a set has a number of the
// runtime's in it.
SyscallResult LimitSelect(const Caller& caller, ArgumentValues& arguments);

SyscallResult HandlePoll(Caller& caller, const ArgumentValues& arguments);
SyscallResult HandleSelect(Caller& caller, const ArgumentValues& arguments);
void RegisterPollHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_POLL_H_
