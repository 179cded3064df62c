#include "hostcalls/services/ioctl.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/session_processes.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

enum class IoctlKind : unsigned char {
  kNone,
  kValue,
  kIn,
  kOut,
  kInOut,
  kFd,
  kRefuse,
  kCloneRange,
  kExtentMap,
  kInterfaceList,
};

struct IoctlRequest {
  std::uint32_t number;
  IoctlKind kind;
  std::size_t size;
};

constexpr IoctlRequest kRequests[] = {
#define NOT_UNDER_POLICY(number, name)
#define IOCTL(number, name, kind, size) {number, IoctlKind::kind, size},
#include "hostcalls/services/ioctls.inc"
#undef IOCTL
#undef NOT_UNDER_POLICY
};
constexpr std::uint32_t kRefusedUnderPolicy[] = {
#define NOT_UNDER_POLICY(number, name) number,
#define IOCTL(number, name, kind, size)
#include "hostcalls/services/ioctls.inc"
#undef IOCTL
#undef NOT_UNDER_POLICY
};
// More than any row needs: a driver that takes a number for something larger stays inside too.
constexpr std::size_t kBufferSize = 1024;
static_assert(std::ranges::max(kRequests, {}, &IoctlRequest::size).size < kBufferSize);
static_assert(sizeof(ifreq) == 40 && sizeof(ifconf) == 16 && sizeof(file_clone_range) == 32);

// struct fiemap without the array that follows it. [linux]
struct ExtentMapHeader {
  std::uint64_t start;
  std::uint64_t length;
  std::uint32_t flags;
  std::uint32_t mapped_extents;
  std::uint32_t extent_count;
  std::uint32_t reserved;
};
static_assert(sizeof(ExtentMapHeader) == 32);
constexpr std::size_t kExtentSize = 56;
constexpr std::uint32_t kMostExtents = 1 << 14;  // of one request; cp asks for a few hundred

SyscallResult Forward(Caller& caller, int fd, std::uint32_t request, std::uint64_t argument) {
  return HostCall(caller, SYS_ioctl, Arguments(fd, request, argument));
}

// With a structure of ours that names no other memory.
SyscallResult OnOurs(Caller& caller, int fd, std::uint32_t request, void* argument) {
  return RuntimeCall(caller, SYS_ioctl, Arguments(fd, request, argument));
}

// Under a policy, a number that is a process or a group has to be of the session.
SyscallResult MayPass(Caller& caller, const IoctlRequest& request,
                      std::span<const std::byte> copy) {
  const bool sets_owner = request.number == FIOSETOWN || request.number == SIOCSPGRP;
  if (!sets_owner && request.number != TIOCSPGRP) return kSuccess;
  pid_t process = 0;
  std::memcpy(&process, copy.data(), sizeof(process));
  return sets_owner ? RequireSessionOwner(caller, "have signals sent to", process)
                    : RequireForegroundGroup(caller, process);
}

// Under a policy: what changes a file without writing to it, or takes a terminal from others.
SyscallResult MayRequest(Caller& caller, const IoctlRequest& request) {
  if (caller.guard == nullptr || caller.guard->allows_all()) return kSuccess;
  if (std::ranges::find(kRefusedUnderPolicy, request.number) == std::end(kRefusedUnderPolicy)) {
    return kSuccess;
  }
  const bool refused =
      caller.guard->Refuse(caller, {.action = "request",
                                    .object = absl::StrCat("ioctl ", absl::Hex(request.number)),
                                    .origin = 0,
                                    .cure = "--allow=all",
                                    .error = EPERM});
  return refused ? SyscallResult(Errno{EPERM}) : kSuccess;
}

// The kernel works on a copy: what it may touch is ours and of the size we know, also when the
// driver behind `fd` takes the number for something else. All of it is copied in: the rest of a
// structure that the kernel fills only in part has to stay what it was.
SyscallResult WithCopy(Caller& caller, int fd, const IoctlRequest& request, std::uint64_t address) {
  std::array<std::byte, kBufferSize> buffer{};
  const auto copy = std::span(buffer).first(request.size);
  if (!caller.memory.Contains(address, request.size)) return Errno{EFAULT};
  const bool readable = caller.memory.Read(address, copy);
  if (!readable && request.kind != IoctlKind::kOut) return Errno{EFAULT};
  if (const SyscallResult allowed = MayPass(caller, request, copy); !allowed.ok()) return allowed;
  const SyscallResult result = OnOurs(caller, fd, request.number, buffer.data());
  if (!result.ok() || request.kind == IoctlKind::kIn) return result;
  return caller.memory.Write(address, copy) ? result : Errno{EFAULT};
}

SyscallResult CloneRange(Caller& caller, int fd, std::uint64_t address) {
  CopyResult<file_clone_range> range = caller.memory.CopyIn(GuestPtr<file_clone_range>{address});
  if (!range.ok()) return range.error();
  if (caller.reserved.Contains(static_cast<std::uint64_t>(range->src_fd))) return Errno{EBADF};
  return OnOurs(caller, fd, FICLONERANGE, &*range);
}

// A header with the number of records that may follow it.
SyscallResult ExtentMap(Caller& caller, int fd, const IoctlRequest& request,
                        std::uint64_t address) {
  CopyResult<ExtentMapHeader> header = caller.memory.CopyIn(GuestPtr<ExtentMapHeader>{address});
  if (!header.ok()) return header.error();
  header->extent_count = std::min(header->extent_count, kMostExtents);
  std::vector<std::byte> buffer(sizeof(*header) + header->extent_count * kExtentSize);
  std::memcpy(buffer.data(), &*header, sizeof(*header));
  const SyscallResult result = OnOurs(caller, fd, request.number, buffer.data());
  if (result.is_restart()) return result;
  std::memcpy(&*header, buffer.data(), sizeof(*header));
  // After an error, the header alone: the kernel says there which flags it does not know.
  const std::size_t extents =
      result.ok() ? std::min(header->mapped_extents, header->extent_count) : 0;
  const auto filled = std::span(buffer).first(sizeof(*header) + extents * kExtentSize);
  return caller.memory.Write(address, filled) ? result : Errno{EFAULT};
}

// A length and a pointer to that many bytes; a null pointer asks for the length.
SyscallResult InterfaceList(Caller& caller, int fd, std::uint64_t address) {
  CopyResult<ifconf> list = caller.memory.CopyIn(GuestPtr<ifconf>{address});
  if (!list.ok()) return list.error();
  if (list->ifc_buf != nullptr) {
    if (list->ifc_len < 0) return Errno{EINVAL};
    const auto size = static_cast<std::uint64_t>(list->ifc_len);
    if (!caller.memory.Contains(AsArgument(list->ifc_buf), size)) return Errno{EFAULT};
  }
  StagingScope staged(caller.staging);
  const ifconf* const answer = staged.Place(*list);
  const SyscallResult result = Forward(caller, fd, SIOCGIFCONF, AsArgument(answer));
  if (!result.ok()) return result;
  // The length is the structure's first member; the pointer stays as it is.
  const auto length = std::as_bytes(std::span(&answer->ifc_len, 1));
  return caller.memory.Write(address, length) ? result : Errno{EFAULT};
}

}  // namespace

SyscallResult HandleIoctl(Caller& caller, const ArgumentValues& arguments) {
  const int fd = AsInt(arguments[0]);
  const auto number = static_cast<std::uint32_t>(arguments[1]);
  const auto* request = std::ranges::find(kRequests, number, &IoctlRequest::number);
  if (request == std::end(kRequests)) {
    // A closed descriptor is an error of its own.
    const SyscallResult open = HostCall(caller, SYS_fcntl, Arguments(fd, F_GETFD, 0));
    return open.ok() ? Errno{ENOTTY} : open;
  }
  if (const SyscallResult allowed = MayRequest(caller, *request); !allowed.ok()) return allowed;
  switch (request->kind) {
    case IoctlKind::kRefuse:
      return Errno{EPERM};
    case IoctlKind::kNone:
      return Forward(caller, fd, number, 0);
    case IoctlKind::kFd:
      if (caller.reserved.Contains(arguments[2])) return Errno{EBADF};
      [[fallthrough]];
    case IoctlKind::kValue:
      // With a number, the superuser takes a terminal away from another session.
      if (number == TIOCSCTTY && StaysInSession(caller)) return Forward(caller, fd, number, 0);
      return Forward(caller, fd, number, static_cast<std::uint32_t>(arguments[2]));
    case IoctlKind::kIn:
    case IoctlKind::kOut:
    case IoctlKind::kInOut:
      return WithCopy(caller, fd, *request, arguments[2]);
    case IoctlKind::kCloneRange:
      return CloneRange(caller, fd, arguments[2]);
    case IoctlKind::kExtentMap:
      return ExtentMap(caller, fd, *request, arguments[2]);
    case IoctlKind::kInterfaceList:
      return InterfaceList(caller, fd, arguments[2]);
  }
  return Errno{ENOTTY};
}

void RegisterIoctlHandlers(HandlerTable& handlers) { handlers.Bind("ioctl", HandleIoctl); }

}  // namespace dunebox::hostcalls
