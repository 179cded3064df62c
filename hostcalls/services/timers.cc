#include "hostcalls/services/timers.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {

SyscallResult HandleTimerCreate(Caller& caller, const ArgumentValues& arguments) {
  static_assert(sizeof(sigevent) == 64);
  sigevent event{};
  if (arguments[1] != 0) {
    const CopyResult<sigevent> copy = caller.memory.CopyIn(GuestPtr<sigevent>{arguments[1]});
    if (!copy.ok()) return copy.error();
    event = *copy;
  }
  int id = 0;
  const SyscallResult result =
      RuntimeCall(caller, SYS_timer_create,
                  Arguments(AsInt(arguments[0]), arguments[1] != 0 ? &event : nullptr, &id));
  if (!result.ok()) return result;
  const SyscallResult written = caller.memory.CopyOut(GuestPtr<int>{arguments[2]}, id);
  if (!written.ok()) syscall(SYS_timer_delete, id);  // nobody knows its number
  return written;
}

void RegisterTimerHandlers(HandlerTable& handlers) {
  handlers.Bind("timer_create", HandleTimerCreate);
}

}  // namespace dunebox::hostcalls
