// Small things that every family of handlers needs.
//
//   const int fd = AsInt(arguments[0]);
//   return HostCall(caller, SYS_fcntl, Arguments(fd, F_GETLK, &lock));
#ifndef DUNEBOX_HOSTCALLS_SERVICES_SUPPORT_H_
#define DUNEBOX_HOSTCALLS_SERVICES_SUPPORT_H_

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/host_call.h"
#include "hostcalls/result.h"

namespace dunebox::hostcalls {

// The kernel looks at the low 32 bits of an `int` argument.
constexpr int AsInt(std::uint64_t argument) { return static_cast<std::int32_t>(argument); }

inline std::uint64_t AsArgument(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}
template <typename T>
requires std::is_integral_v<T> || std::is_enum_v<T>
constexpr std::uint64_t AsArgument(T value) {
  return static_cast<std::uint64_t>(value);  // sign-extended, as the ABI has it
}
template <typename... Values>
ArgumentValues Arguments(Values... values) {
  return ArgumentValues{AsArgument(values)...};
}

// Of a failed call. Carries "restart" as well: SyscallResult(ErrorOf(result)) == result.
constexpr Errno ErrorOf(SyscallResult result) { return Errno{result.error()}; }

// Of a failed call to the C library.
inline Errno LastErrno() { return Errno{errno}; }

// Is `id` a thread of this process? (Also its process id; 0 is not.)
bool IsOwnTask(pid_t id);

// A structure whose size the guest states (`struct open_how`, ...): shorter is an older program,
// which is completed with zeros; longer is a newer one, which may only have zeros there (E2BIG).
// EINVAL below `smallest`.
SyscallResult CopyInExtensible(const GuestMemory& memory, std::uint64_t address, std::uint64_t size,
                               std::uint64_t smallest, std::span<std::byte> to);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_SUPPORT_H_
