// execve and execveat: copying the arguments, naming the program.
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/pinned_path.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"
#include "runtime/loader/initial_stack.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/exec.h"

namespace dunebox::process {
namespace {

using hostcalls::ArgumentValues;
using hostcalls::Caller;
using hostcalls::CopyResult;
using hostcalls::Errno;
using hostcalls::SyscallResult;

constexpr std::size_t kMostStringBytes = std::size_t{6} << 20;  // [linux] three quarters of 8 MiB

// A NULL-terminated array of strings. A null array is an empty one, as on Linux.
CopyResult<std::vector<std::string>> CopyInStrings(const hostcalls::GuestMemory& memory,
                                                   std::uint64_t array, std::size_t& room) {
  std::vector<std::string> strings;
  for (std::uint64_t at = array; array != 0; at += sizeof(std::uint64_t)) {
    auto pointer = memory.CopyIn(GuestPtr<std::uint64_t>{at});
    if (!pointer.ok()) return pointer.error();
    if (*pointer == 0) break;
    auto text = memory.CopyInString(*pointer, loader::kMaxArgumentString - 1, Errno{E2BIG});
    if (!text.ok()) return text.error();
    const std::size_t cost = text->size() + 1 + sizeof(std::uint64_t);
    if (cost > room) return Errno{E2BIG};
    room -= cost;
    strings.push_back(*std::move(text));
  }
  return strings;
}

SyscallResult CopyAndExecute(Caller& caller, ExecRequest request, std::uint64_t argv,
                             std::uint64_t envp) {
  std::size_t room = kMostStringBytes;
  auto arguments = CopyInStrings(caller.memory, argv, room);
  if (!arguments.ok()) return arguments.error();
  auto environment = CopyInStrings(caller.memory, envp, room);
  if (!environment.ok()) return environment.error();
  request.arguments = *std::move(arguments);
  if (request.arguments.empty()) request.arguments.emplace_back();
  request.environment = *std::move(environment);
  return Execute(GuestThread::From(caller), std::move(request));
}

CopyResult<hostcalls::ReservedFd> FindProgram(Caller& caller, int directory, const std::string& path,
                                              std::uint64_t flags) {
  auto program = hostcalls::PinVisible(caller, directory, path, {.flags = flags});
  if (!program.ok()) {
    return hostcalls::ErrorOf(hostcalls::TellFailure(caller, directory, path, program.error()));
  }
  const SyscallResult allowed =
      hostcalls::RequireRights(caller, program->get(), hostcalls::policy::kNoRights);
  if (!allowed.ok()) return hostcalls::ErrorOf(allowed);
  return program;
}

// The path by which the next runtime will find the program: another one where the guest's path
// leads elsewhere for the runtime (/proc/<pid>/exe).
CopyResult<std::string> NamedProgram(Caller& caller, std::string path) {
  const auto program = FindProgram(caller, AT_FDCWD, path, 0);
  if (!program.ok()) return program.error();
  struct stat seen;
  struct stat named;
  const bool same = fstat((*program).get(), &seen) == 0 && stat(path.c_str(), &named) == 0 &&
                    seen.st_dev == named.st_dev && seen.st_ino == named.st_ino;
  if (same) return path;
  return hostcalls::ReadLinkText(
      caller, hostcalls::NumberOf(hostcalls::ReservedSlot::kProc, caller.reserved),
      hostcalls::DescriptorLink((*program).get()));
}

SyscallResult ExecuteNamed(Caller& caller, std::string path, std::uint64_t argv,
                           std::uint64_t envp) {
  auto program = NamedProgram(caller, std::move(path));
  if (!program.ok()) return program.error();
  return CopyAndExecute(caller, {.path = *std::move(program)}, argv, envp);
}

// What lies below a descriptor, which the next runtime may not have any more: it gets the program itself.
SyscallResult ExecuteBelow(Caller& caller, int directory, const std::string& path, bool follows,
                           std::uint64_t argv, std::uint64_t envp) {
  const auto program = FindProgram(caller, directory, path, follows ? 0 : O_NOFOLLOW);
  if (!program.ok()) return program.error();
  const int held = (*program).get();
  struct stat info;
  if (fstat(held, &info) != 0) return Errno{errno};
  if (S_ISLNK(info.st_mode)) return Errno{ELOOP};
  return CopyAndExecute(caller,
                        {.path = absl::StrCat("/dev/fd/", directory, "/", path),  // the kernel's own name for it
                         .program_fd = held,
                         .path_fd = directory},
                        argv, envp);
}

SyscallResult HandleExecve(Caller& caller, const ArgumentValues& a) {
  auto path = caller.memory.CopyInString(a[0], PATH_MAX - 1, Errno{ENAMETOOLONG});
  if (!path.ok()) return path.error();
  if (path->empty()) return Errno{ENOENT};
  return ExecuteNamed(caller, *std::move(path), a[1], a[2]);
}

SyscallResult HandleExecveat(Caller& caller, const ArgumentValues& a) {
  const int directory = hostcalls::AsInt(a[0]);
  const int flags = hostcalls::AsInt(a[4]);
  if ((flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) != 0) return Errno{EINVAL};
  auto path = caller.memory.CopyInString(a[1], PATH_MAX - 1, Errno{ENAMETOOLONG});
  if (!path.ok()) return path.error();
  if (path->empty()) {
    if ((flags & AT_EMPTY_PATH) == 0) return Errno{ENOENT};
    if (fcntl(directory, F_GETFD) < 0) return Errno{EBADF};
    return CopyAndExecute(caller,
                          {.path = absl::StrCat("/dev/fd/", directory),
                           .program_fd = directory,
                           .path_fd = directory},
                          a[2], a[3]);
  }
  const bool follows = (flags & AT_SYMLINK_NOFOLLOW) == 0;
  if (path->front() != '/' && directory != AT_FDCWD) {
    return ExecuteBelow(caller, directory, *path, follows, a[2], a[3]);
  }
  if (!follows) {
    struct stat info;
    if (fstatat(AT_FDCWD, path->c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return Errno{errno};
    if (S_ISLNK(info.st_mode)) return Errno{ELOOP};
  }
  return ExecuteNamed(caller, *std::move(path), a[2], a[3]);
}

}  // namespace

void RegisterExecHandlers(hostcalls::HandlerTable& handlers) {
  handlers.Bind("execve", HandleExecve);
  handlers.Bind("execveat", HandleExecveat);
}

}  // namespace dunebox::process
