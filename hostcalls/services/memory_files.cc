#include "hostcalls/services/memory_files.h"

#include <sys/syscall.h>

#include <string>

#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint32_t kNoExecSeal = 0x8, kExecutable = 0x10;  // [linux 6.3] MFD_NOEXEC_SEAL, MFD_EXEC
constexpr std::size_t kMostName = 249;                          // NAME_MAX less "memfd:"

}  // namespace

SyscallResult HandleMemfdCreate(Caller& caller, const ArgumentValues& arguments) {
  auto flags = static_cast<std::uint32_t>(arguments[1]);
  if (caller.seals_memfds) {
    if ((flags & kExecutable) != 0) return Errno{EACCES};
    flags |= kNoExecSeal;
  }
  CopyResult<std::string> name =
      caller.memory.CopyInString(arguments[0], kMostName, Errno{EINVAL});
  if (!name.ok()) return name.error();
  return RuntimeCall(caller, SYS_memfd_create, Arguments(name->c_str(), flags));
}

void RegisterMemoryFileHandlers(HandlerTable& handlers) {
  handlers.Bind("memfd_create", HandleMemfdCreate);
}

}  // namespace dunebox::hostcalls
