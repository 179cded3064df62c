// Clocks, waiting and random numbers. What waits, waits in the host's kernel until a kick.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include <algorithm>
#include <array>

#include "hostcalls/services/support.h"
#include "sandbox/plugin/calls.h"
#include "sandbox/plugin/kernel_buffer.h"

namespace dunebox::plugin::calls {
namespace {

using hostcalls::Arguments;
using hostcalls::CopyResult;
using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;

// What the host's process has used of a processor is not the plugin's to know: of its own thread.
CopyResult<int> HostClock(int clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
      return clock;
    case CLOCK_PROCESS_CPUTIME_ID:
    case CLOCK_THREAD_CPUTIME_ID:
      return int{CLOCK_THREAD_CPUTIME_ID};
    default:
      return Errno{EINVAL};
  }
}

SyscallResult SleepNow(const Calling& call, int clock, int flags, std::uint64_t wanted,
                       std::uint64_t left) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME) {
    return Errno{EINVAL};
  }
  const auto time = call.memory.CopyIn(GuestPtr<timespec>{wanted});
  if (!time.ok()) return time.error();
  const timespec request = *time;
  timespec remaining{};
  const SyscallResult slept =
      call.Host(SYS_clock_nanosleep, Arguments(clock, flags, &request, &remaining));
  if (slept.error() == EINTR && left != 0 && (flags & TIMER_ABSTIME) == 0) {
    const SyscallResult copied = call.memory.CopyOut(GuestPtr<timespec>{left}, remaining);
    if (!copied.ok()) return copied;
  }
  return slept;
}

enum class Uses : std::uint8_t { kNothing, kTimeout, kSecondWord };

struct FutexRow {
  int operation;
  Uses fourth_and_fifth;
};
// Those that do not know threads by their kernel's ids.
constexpr FutexRow kFutexes[] = {
    {FUTEX_WAIT, Uses::kTimeout},         {FUTEX_WAKE, Uses::kNothing},
    {FUTEX_WAIT_BITSET, Uses::kTimeout},  {FUTEX_WAKE_BITSET, Uses::kNothing},
    {FUTEX_REQUEUE, Uses::kSecondWord},   {FUTEX_CMP_REQUEUE, Uses::kSecondWord},
    {FUTEX_WAKE_OP, Uses::kSecondWord},
};

}  // namespace

SyscallResult GetClock(const Calling& call) {
  const CopyResult<int> clock = HostClock(call.Int(0));
  if (!clock.ok()) return clock.error();
  timespec now;
  if (clock_gettime(*clock, &now) != 0) return Errno{errno};
  return call.memory.CopyOut(GuestPtr<timespec>{call[1]}, now);
}

SyscallResult GetResolution(const Calling& call) {
  const CopyResult<int> clock = HostClock(call.Int(0));
  if (!clock.ok()) return clock.error();
  timespec resolution;
  if (clock_getres(*clock, &resolution) != 0) return Errno{errno};
  if (call[1] == 0) return kSuccess;
  return call.memory.CopyOut(GuestPtr<timespec>{call[1]}, resolution);
}

SyscallResult GetTimeOfDay(const Calling& call) {
  timeval now;
  if (gettimeofday(&now, nullptr) != 0) return Errno{errno};
  if (call[0] != 0) {
    const SyscallResult copied = call.memory.CopyOut(GuestPtr<timeval>{call[0]}, now);
    if (!copied.ok()) return copied;
  }
  constexpr std::array<int, 2> kNoZone{};
  return call[1] == 0 ? kSuccess
                      : call.memory.CopyOut(GuestPtr<std::array<int, 2>>{call[1]}, kNoZone);
}

SyscallResult GetSeconds(const Calling& call) {
  const std::int64_t now = time(nullptr);
  if (call[0] != 0) {
    const SyscallResult copied = call.memory.CopyOut(GuestPtr<std::int64_t>{call[0]}, now);
    if (!copied.ok()) return copied;
  }
  return SyscallResult(now);
}

SyscallResult Sleep(const Calling& call) {
  return SleepNow(call, CLOCK_MONOTONIC, 0, call[0], call[1]);
}

SyscallResult SleepOnClock(const Calling& call) {
  return SleepNow(call, call.Int(0), call.Int(1) & TIMER_ABSTIME, call[2], call[3]);
}

// Words are private to the process: no other window has them, and no other process.
SyscallResult Futex(const Calling& call) {
  const int operation = call.Int(1) & FUTEX_CMD_MASK;
  const auto row = std::ranges::find(kFutexes, operation, &FutexRow::operation);
  if (row == std::end(kFutexes)) return Errno{ENOSYS};
  void* const word = FutexWord(call, call[0], /*is_written=*/false);
  if (word == nullptr) return Errno{EFAULT};
  std::uint64_t fourth = call[3], fifth = call[4];
  timespec timeout;
  if (row->fourth_and_fifth == Uses::kTimeout && call[3] != 0) {
    const auto copied = call.memory.CopyIn(GuestPtr<timespec>{call[3]});
    if (!copied.ok()) return copied.error();
    timeout = *copied;
    fourth = hostcalls::AsArgument(&timeout);
  }
  if (row->fourth_and_fifth == Uses::kSecondWord) {
    const void* const second = FutexWord(call, call[4], /*is_written=*/operation == FUTEX_WAKE_OP);
    if (second == nullptr) return Errno{EFAULT};
    fifth = hostcalls::AsArgument(second);
  }
  const int flags = operation | FUTEX_PRIVATE_FLAG | (call.Int(1) & FUTEX_CLOCK_REALTIME);
  return call.Host(SYS_futex, Arguments(word, flags, call[2], fourth, fifth, call[5]));
}

SyscallResult GetRandom(const Calling& call) {
  constexpr std::uint64_t kMost = 1 << 20;
  const std::uint64_t size = std::min(call[1], kMost);
  KernelBuffer buffer(call, call[0], size, KernelBuffer::Filled::kByKernel);
  if (buffer.data() == nullptr) return Errno{EFAULT};
  return buffer.Finish(call.Host(SYS_getrandom, Arguments(buffer.data(), buffer.size(), call[2])));
}

}  // namespace dunebox::plugin::calls
