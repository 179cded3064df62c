// Calls that wait with another signal mask: sigsuspend, ppoll, pselect6, epoll_pwait.
//
// The kernel swaps the host mask for the time of the call; the guest's mask is swapped with it, so
// that a signal which ends the call is delivered under the mask it was let in by, and the old mask
// comes back afterwards.
#include <sys/syscall.h>

#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/services/poll.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/guest_thread.h"

namespace dunebox::process {
namespace {

using hostcalls::ArgumentValues;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::HostCall;
using hostcalls::SyscallResult;

constexpr std::uint64_t kMaskSize = sizeof(std::uint64_t);

// Issues the call with `mask` as the guest's mask while it waits. `host_mask` is our copy that the
// kernel reads, staged already; the CPU's signals stay open in it.
SyscallResult WaitWithMask(GuestThread& thread, std::uint64_t& host_mask, std::uint64_t number,
                           const ArgumentValues& arguments) {
  SignalState& signal = thread.signal;
  const std::uint64_t before = signal.mask;
  signal.mask = host_mask & ~signals::kUnblockable;
  // One of the CPU's kind that was sent while it was blocked waits with us and not in the kernel.
  if ((signal.pending.mask() & signals::kSynchronous & ~signal.mask) != 0) {
    signal.mask_to_restore = before;
    thread.signal_pending = 1;
    return Errno{EINTR};
  }
  host_mask &= ~signals::kSynchronous;
  const SyscallResult result = HostCall(thread, number, arguments);
  if (!result.is_restart() && signal.HasDeliverable()) {
    // Delivered under the new mask; the frame carries the old one.
    signal.mask_to_restore = before;
  } else {
    // Nothing came, or the signal came before the call: then the call is made again after it.
    signal.mask = before;
  }
  return result;
}

SyscallResult HandleSigsuspend(Caller& caller, const ArgumentValues& a) {
  if (a[1] != kMaskSize) return Errno{EINVAL};
  auto mask = caller.memory.CopyIn(GuestPtr<std::uint64_t>{a[0]});
  if (!mask.ok()) return mask.error();
  hostcalls::StagingScope staged(caller.staging);
  std::uint64_t* const host_mask = staged.Place(*mask);
  return WaitWithMask(GuestThread::From(caller), *host_mask, SYS_rt_sigsuspend,
                      {reinterpret_cast<std::uint64_t>(host_mask), kMaskSize});
}

// The common shape: argument `index` is a pointer to a mask or null, the next one its size.
SyscallResult WaitWithMaskAt(Caller& caller, std::uint64_t number, ArgumentValues a,
                             std::size_t index) {
  if (a[index] == 0) return HostCall(caller, number, a);
  if (a[index + 1] != kMaskSize) return Errno{EINVAL};
  auto mask = caller.memory.CopyIn(GuestPtr<std::uint64_t>{a[index]});
  if (!mask.ok()) return mask.error();
  hostcalls::StagingScope staged(caller.staging);
  std::uint64_t* const host_mask = staged.Place(*mask);
  a[index] = reinterpret_cast<std::uint64_t>(host_mask);
  return WaitWithMask(GuestThread::From(caller), *host_mask, number, a);
}

SyscallResult HandlePpoll(Caller& caller, const ArgumentValues& a) {
  hostcalls::PollSet set(caller);
  if (SyscallResult copied = set.CopyIn(a[0], a[1]); !copied.ok()) return copied;
  return set.CopyOut(WaitWithMaskAt(caller, SYS_ppoll, set.Replace(a), 3));
}

SyscallResult HandleEpollPwait(Caller& caller, const ArgumentValues& a) {
  return WaitWithMaskAt(caller, SYS_epoll_pwait, a, 4);
}

SyscallResult HandleEpollPwait2(Caller& caller, const ArgumentValues& a) {
  constexpr std::uint64_t kSysEpollPwait2 = 441;
  return WaitWithMaskAt(caller, kSysEpollPwait2, a, 4);
}

// pselect6's sixth argument: a pointer to a pointer and a size.
struct MaskArgument {
  std::uint64_t mask;
  std::uint64_t size;
};

SyscallResult HandlePselect6(Caller& caller, const ArgumentValues& original) {
  ArgumentValues a = original;
  if (SyscallResult limited = hostcalls::LimitSelect(caller, a); !limited.ok()) return limited;
  if (a[5] == 0) return HostCall(caller, SYS_pselect6, a);
  auto argument = caller.memory.CopyIn(GuestPtr<MaskArgument>{a[5]});
  if (!argument.ok()) return argument.error();
  if (argument->mask == 0) {
    a[5] = 0;
    return HostCall(caller, SYS_pselect6, a);
  }
  if (argument->size != kMaskSize) return Errno{EINVAL};
  auto mask = caller.memory.CopyIn(GuestPtr<std::uint64_t>{argument->mask});
  if (!mask.ok()) return mask.error();
  hostcalls::StagingScope staged(caller.staging);
  std::uint64_t* const host_mask = staged.Place(*mask);
  argument->mask = reinterpret_cast<std::uint64_t>(host_mask);
  a[5] = reinterpret_cast<std::uint64_t>(staged.Place(*argument));
  return WaitWithMask(GuestThread::From(caller), *host_mask, SYS_pselect6, a);
}

}  // namespace

void RegisterMaskedWaitHandlers(hostcalls::HandlerTable& handlers) {
  handlers.Bind("rt_sigsuspend", HandleSigsuspend);
  handlers.Bind("ppoll", HandlePpoll);
  handlers.Bind("epoll_pwait", HandleEpollPwait);
  handlers.Bind("epoll_pwait2", HandleEpollPwait2);
  handlers.Bind("pselect6", HandlePselect6);
}

}  // namespace dunebox::process
