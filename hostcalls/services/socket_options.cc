#include "hostcalls/services/socket_options.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "hostcalls/policy/network.h"
#include "hostcalls/services/checked_address.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr int kLevels[] = {
#define LEVEL(number, name) number,
#define REFUSED(level, option, name, why)
#include "hostcalls/services/socket_options.inc"
#undef REFUSED
#undef LEVEL
};

struct Option {
  int level;
  int option;
  bool operator==(const Option&) const = default;
};
constexpr Option kRefused[] = {
#define LEVEL(number, name)
#define REFUSED(level, option, name, why) {level, option},
#include "hostcalls/services/socket_options.inc"
#undef REFUSED
#undef LEVEL
};

bool ReachesHost(Option option) {
  return std::ranges::find(kLevels, option.level) != std::end(kLevels) &&
         std::ranges::find(kRefused, option) == std::end(kRefused);
}

// What the session's policy says. Reading an option tells a program about its own socket.
SyscallResult MaySet(Caller& caller, Option option) {
  if (!HasNetworkRules(caller)) return kSuccess;
  const policy::NetworkRules& rules = caller.guard->rules().network;
  if (policy::MaySetOption(rules, option.level, option.option)) return kSuccess;
  const bool refused = caller.guard->Refuse(
      caller, {.action = "set socket option",
               .object = absl::StrCat("level ", option.level, " option ", option.option),
               .origin = rules.origin,
               .cure = "",
               .error = EPERM});
  return refused ? SyscallResult(Errno{EPERM}) : kSuccess;
}

}  // namespace

SyscallResult HandleSetsockopt(Caller& caller, const ArgumentValues& arguments) {
  const int fd = AsInt(arguments[0]);
  const Option option{AsInt(arguments[1]), AsInt(arguments[2])};
  const int length = AsInt(arguments[4]);
  if (length < 0) return Errno{EINVAL};
  if (!ReachesHost(option)) return Errno{ENOPROTOOPT};
  if (const SyscallResult allowed = MaySet(caller, option); !allowed.ok()) return allowed;
  // A null pointer has a meaning for some options; the kernel reads nothing there for the others.
  if (arguments[3] != 0 &&
      !caller.memory.Contains(arguments[3], static_cast<std::uint64_t>(length))) {
    return Errno{EFAULT};
  }
  return HostCall(caller, SYS_setsockopt,
                  Arguments(fd, option.level, option.option, arguments[3], length));
}

SyscallResult HandleGetsockopt(Caller& caller, const ArgumentValues& arguments) {
  const int fd = AsInt(arguments[0]);
  const Option option{AsInt(arguments[1]), AsInt(arguments[2])};
  CopyResult<int> length = caller.memory.CopyIn(GuestPtr<int>{arguments[4]});
  if (!length.ok()) return length.error();
  if (*length < 0) return Errno{EINVAL};
  if (!ReachesHost(option)) return Errno{ENOPROTOOPT};
  if (arguments[3] != 0 &&
      !caller.memory.Contains(arguments[3], static_cast<std::uint64_t>(*length))) {
    return Errno{EFAULT};
  }
  StagingScope staged(caller.staging);
  const int* const size = staged.Place(*length);
  const SyscallResult result = HostCall(
      caller, SYS_getsockopt, Arguments(fd, option.level, option.option, arguments[3], size));
  if (!result.ok() && result.error() != ERANGE) return result;
  const SyscallResult written = caller.memory.CopyOut(GuestPtr<int>{arguments[4]}, *size);
  return written.ok() ? result : written;
}

void RegisterSocketOptionHandlers(HandlerTable& handlers) {
  handlers.Bind("setsockopt", HandleSetsockopt);
  handlers.Bind("getsockopt", HandleGetsockopt);
}

}  // namespace dunebox::hostcalls
