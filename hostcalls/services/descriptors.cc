#include "hostcalls/services/descriptors.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "hostcalls/services/limits.h"
#include "hostcalls/services/session_processes.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

enum class FcntlKind : unsigned char { kNone, kValue, kLowestFd, kFd, kIn, kOut, kInOut };

struct FcntlCommand {
  int number;
  FcntlKind kind;
  std::size_t size;
};

constexpr FcntlCommand kCommands[] = {
#define FCNTL(number, name, kind, size) {number, FcntlKind::kind, size},
#include "hostcalls/services/fcntls.inc"
#undef FCNTL
};
constexpr std::size_t kLargest = 32;
static_assert(std::ranges::max(kCommands, {}, &FcntlCommand::size).size == kLargest);
static_assert(sizeof(struct flock) == 32);

constexpr std::string_view kSignalTo = "have signals sent to";

bool HasRules(const Caller& caller) {
  return caller.guard != nullptr && !caller.guard->allows_all();
}

// Of a copied F_SETOWN_EX.
SyscallResult MayOwn(Caller& caller, std::span<const std::byte> copy) {
  f_owner_ex owner{};
  std::memcpy(&owner, copy.data(), sizeof(owner));
  const bool is_group = owner.type == F_OWNER_PGRP && owner.pid > 0;
  return RequireSessionOwner(caller, kSignalTo, is_group ? -owner.pid : owner.pid);
}

// A command with a structure: the kernel works on our copy.
SyscallResult WithCopy(Caller& caller, int fd, const FcntlCommand& command, std::uint64_t address) {
  std::array<std::byte, kLargest> buffer{};
  const auto copy = std::span(buffer).first(command.size);
  if (!caller.memory.Contains(address, command.size)) return Errno{EFAULT};
  if (command.kind != FcntlKind::kOut && !caller.memory.Read(address, copy)) return Errno{EFAULT};
  if (command.number == F_SETOWN_EX) {
    const SyscallResult allowed = MayOwn(caller, copy);
    if (!allowed.ok()) return allowed;
  }
  const SyscallResult result =
      RuntimeCall(caller, SYS_fcntl, Arguments(fd, command.number, copy.data()));
  if (!result.ok() || command.kind == FcntlKind::kIn) return result;
  return caller.memory.Write(address, copy) ? result : Errno{EFAULT};
}

// What a session's rules have to say about a command with a number.
SyscallResult MayDo(Caller& caller, int command, std::uint64_t argument) {
  switch (command) {
    case F_SETOWN:
      return RequireSessionOwner(caller, kSignalTo, AsInt(argument));
    case F_SETLEASE: {
      // Others who open the file would wait for the program.
      const bool refused = caller.guard->Refuse(caller, {.action = "take a lease",
                                                         .object = "of a file",
                                                         .origin = 0,
                                                         .cure = "--allow=all",
                                                         .error = EACCES});
      return refused ? SyscallResult(Errno{EACCES}) : kSuccess;
    }
    default:
      return kSuccess;
  }
}

// A call that gives descriptors to somebody else or other numbers.
SyscallResult Copy(Caller& caller, std::uint64_t number, const ArgumentValues& arguments) {
  const LowDescriptors::Use use(caller.limits.low_descriptors);
  return HostCall(caller, number, arguments);
}

template <std::uint64_t Number>
SyscallResult HandleCopy(Caller& caller, const ArgumentValues& arguments) {
  if (Number == SYS_dup || caller.limits.output == nullptr) return Copy(caller, Number, arguments);
  const auto to = static_cast<unsigned>(arguments[1]);
  const DescriptorChanges::Change change(caller.limits.descriptor_changes, to, to);
  return Copy(caller, Number, arguments);
}

// Closes or marks [first, last]; nothing when it is empty.
SyscallResult CloseRange(Caller& caller, std::uint64_t first, std::uint64_t last,
                         std::uint64_t flags) {
  if (first > last) return kSuccess;
  std::optional<DescriptorChanges::Change> change;
  if (caller.limits.output != nullptr) {
    change.emplace(caller.limits.descriptor_changes, static_cast<unsigned>(first),
                   static_cast<unsigned>(last));
  }
  if ((flags & CLOSE_RANGE_UNSHARE) != 0) {
    return Copy(caller, SYS_close_range, Arguments(first, last, flags));
  }
  return HostCall(caller, SYS_close_range, Arguments(first, last, flags));
}

}  // namespace

SyscallResult HandleCloseRange(Caller& caller, const ArgumentValues& arguments) {
  const std::uint64_t first = static_cast<std::uint32_t>(arguments[0]);
  const std::uint64_t last = static_cast<std::uint32_t>(arguments[1]);
  const std::uint64_t flags = static_cast<std::uint32_t>(arguments[2]);
  if (first > last) return Errno{EINVAL};
  const auto reserved_first = static_cast<std::uint64_t>(caller.reserved.first);
  const std::uint64_t reserved_last =
      reserved_first + static_cast<std::uint64_t>(caller.reserved.count) - 1;
  if (last < reserved_first || first > reserved_last) {
    return CloseRange(caller, first, last, flags);
  }
  // The part above first: what is done to the part below may not be undone by a failure. It also
  // does the unsharing, with a table that still has the runtime's descriptors.
  const SyscallResult above = CloseRange(caller, std::max(first, reserved_last + 1), last, flags);
  if (!above.ok()) return above;
  if (first >= reserved_first) {
    // Nothing below: an unknown flag has to be refused all the same.
    return last > reserved_last ? above
                                : CloseRange(caller, reserved_last + 1, reserved_last + 1, flags);
  }
  return CloseRange(caller, first, reserved_first - 1, flags);
}

SyscallResult HandleFcntl(Caller& caller, const ArgumentValues& arguments) {
  const int fd = AsInt(arguments[0]);
  const int number = AsInt(arguments[1]);
  const auto* command = std::ranges::find(kCommands, number, &FcntlCommand::number);
  if (command == std::end(kCommands)) {
    const SyscallResult is_open = HostCall(caller, SYS_fcntl, Arguments(fd, F_GETFD, 0));
    return is_open.ok() ? SyscallResult(Errno{EINVAL}) : is_open;
  }
  if (HasRules(caller)) {
    const SyscallResult allowed = MayDo(caller, number, arguments[2]);
    if (!allowed.ok()) return allowed;
  }
  switch (command->kind) {
    case FcntlKind::kLowestFd:
      // As the kernel says at the soft limit; during an open() of a sibling's its limit is higher.
      if (static_cast<std::uint32_t>(arguments[2]) >=
          static_cast<std::uint32_t>(caller.reserved.first)) {
        return Errno{EINVAL};
      }
      return Copy(caller, SYS_fcntl, Arguments(fd, number, AsInt(arguments[2])));
    case FcntlKind::kFd:
      if (caller.reserved.Contains(arguments[2])) return Errno{EBADF};
      break;
    case FcntlKind::kNone:
    case FcntlKind::kValue:
      break;
    case FcntlKind::kIn:
    case FcntlKind::kOut:
    case FcntlKind::kInOut:
      return WithCopy(caller, fd, *command, arguments[2]);
  }
  // Only the low half: no command here takes an address.
  return HostCall(caller, SYS_fcntl, Arguments(fd, number, AsInt(arguments[2])));
}

void RegisterDescriptorHandlers(HandlerTable& handlers) {
  handlers.Bind("dup", HandleCopy<SYS_dup>);
  handlers.Bind("dup2", HandleCopy<SYS_dup2>);
  handlers.Bind("dup3", HandleCopy<SYS_dup3>);
  handlers.Bind("close_range", HandleCloseRange);
  handlers.Bind("fcntl", HandleFcntl);
}

}  // namespace dunebox::hostcalls
