#include "hostcalls/services/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <iterator>

#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

enum class FourthArgument : unsigned char { kNothing, kTimeout, kCount };

struct FutexOperation {
  int number;
  FourthArgument fourth;
  int words;
};

constexpr FutexOperation kOperations[] = {
#define FUTEX(number, name, fourth, words) {number, FourthArgument::fourth, words},
#include "hostcalls/services/futexes.inc"
#undef FUTEX
};

}  // namespace

SyscallResult HandleFutex(Caller& caller, const ArgumentValues& arguments) {
  const int operation = AsInt(arguments[1]);
  const auto* row =
      std::ranges::find(kOperations, operation & FUTEX_CMD_MASK, &FutexOperation::number);
  if (row == std::end(kOperations)) return Errno{ENOSYS};
  if (arguments[0] % sizeof(std::uint32_t) != 0) return Errno{EINVAL};  // [linux] asked before where it is
  if (!caller.memory.Contains(arguments[0], sizeof(std::uint32_t))) return Errno{EFAULT};
  ArgumentValues values = arguments;
  if (row->words == 2) {
    if (!caller.memory.Contains(arguments[4], sizeof(std::uint32_t))) return Errno{EFAULT};
  } else {
    values[4] = 0;
  }
  timespec timeout{};
  StagingScope staged(caller.staging);
  switch (row->fourth) {
    case FourthArgument::kNothing:
      values[3] = 0;
      break;
    case FourthArgument::kTimeout:
      if (arguments[3] != 0) {
        const CopyResult<timespec> copy = caller.memory.CopyIn(GuestPtr<timespec>{arguments[3]});
        if (!copy.ok()) return copy.error();
        timeout = *copy;
        values[3] = AsArgument(staged.Place(timeout));
      }
      break;
    case FourthArgument::kCount:
      break;
  }
  return HostCall(caller, SYS_futex, values);
}

void RegisterFutexHandlers(HandlerTable& handlers) { handlers.Bind("futex", HandleFutex); }

}  // namespace dunebox::hostcalls
