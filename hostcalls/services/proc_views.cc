#include "hostcalls/services/proc_views.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/pinned_path.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

// What getdents64 writes for each entry. [linux]
struct DirectoryEntry {
  std::uint64_t inode;
  std::int64_t offset;
  std::uint16_t length;
  std::uint8_t type;
};
constexpr std::size_t kNameOffset = 19;
// getdents has the same but for the type, which is in the last byte instead.
constexpr std::size_t kOldNameOffset = 18;
constexpr std::size_t kMostListing = 1 << 16;

// Is the link on the procfs that the runtime knows?
bool IsOnProc(const Caller& caller, int directory, const std::string& path) {
  struct stat link {};
  struct stat proc {};
  return fstatat(directory, path.c_str(), &link, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 &&
         fstat(NumberOf(ReservedSlot::kProc, caller.reserved), &proc) == 0 &&
         link.st_dev == proc.st_dev;
}

CopyResult<ProcLocation> LocateLink(Caller& caller, int directory, const std::string& path) {
  if (path.empty()) return Locate(caller, directory);  // a link held by an O_PATH descriptor
  CopyResult<ReservedFd> pinned =
      PinObject(caller, directory, path, {.flags = O_NOFOLLOW, .resolve = 0});
  if (!pinned.ok()) return pinned.error();
  return Locate(caller, pinned->get());
}

// What /proc/<id>/exe says where the kernel says `text`: the program of a guest, which is behind a
// descriptor of its runtime's.
CopyResult<std::string> ExecutableText(Caller& caller, pid_t id, std::string text) {
  const int proc = NumberOf(ReservedSlot::kProc, caller.reserved);
  const bool own = IsOwnTask(id);
  if (!own) {
    CopyResult<std::string> runtime = ReadLinkText(caller, proc, "self/exe");
    if (!runtime.ok() || *runtime != text) return text;
  }
  CopyResult<std::string> program = ReadLinkText(caller, proc, ExecutableLink(id, caller.reserved));
  if (program.ok() || program.error().value == Errno::kRestart) return program;
  if (own) return caller.process.executable_path();
  return Errno{EACCES};
}

// What the guest reads in a link of procfs whose text for the host is `text`.
CopyResult<std::string> ProcLinkText(Caller& caller, const ProcLocation& location,
                                     std::string text) {
  if (IsOfReserved(location, caller.reserved)) return Errno{ENOENT};
  if (location.name() == "map_files") return Errno{EACCES};
  if (location.entry == "exe") return ExecutableText(caller, location.id, std::move(text));
  return text;
}

SyscallResult ReadLinkOf(Caller& caller, int directory, const std::string& path,
                         std::uint64_t buffer, int size) {
  // Most calls are for things that are no links: the kernel's answer comes first.
  CopyResult<std::string> text = ReadLinkText(caller, directory, path);
  if (!text.ok()) return text.error();
  if (IsOnProc(caller, directory, path)) {
    CopyResult<ProcLocation> location = LocateLink(caller, directory, path);
    if (!location.ok()) return location.error();
    text = ProcLinkText(caller, *location, *std::move(text));
    if (!text.ok()) return text.error();
  }
  const std::size_t length = std::min(text->size(), static_cast<std::size_t>(size));
  if (!caller.memory.Write(buffer, std::as_bytes(std::span(text->data(), length)))) {
    return Errno{EFAULT};
  }
  return SyscallResult(static_cast<std::int64_t>(length));
}

SyscallResult ReadLink(Caller& caller, int directory, std::uint64_t path_address,
                       std::uint64_t buffer, int size) {
  if (size <= 0) return Errno{EINVAL};
  CopyResult<std::string> path =
      caller.memory.CopyInString(path_address, PATH_MAX - 1, Errno{ENAMETOOLONG});
  if (!path.ok()) return path.error();
  if (!HasFileRules(caller) || path->empty()) {
    return ReadLinkOf(caller, directory, *std::move(path), buffer, size);
  }
  CopyResult<ReservedFd> link = PinVisible(caller, directory, *path, {.flags = O_NOFOLLOW});
  if (!link.ok()) return TellFailure(caller, directory, *path, link.error());
  const SyscallResult allowed = RequireRights(caller, link->get(), policy::kNoRights);
  if (!allowed.ok()) return allowed;
  const SyscallResult result = ReadLinkOf(caller, link->get(), std::string(), buffer, size);
  // What the kernel says of a descriptor that holds no link; of a path it says EINVAL.
  return result.error() == ENOENT ? SyscallResult(Errno{EINVAL}) : result;
}

// What is left out of the listing of a directory.
enum class Hidden : unsigned char {
  kNothing,
  kReserved,   // of descriptors by number, those of the runtime
  kProcesses,  // of processes by number, all others under file rules (file_rules.h)
};

Hidden HiddenIn(const Caller& caller, int fd) {
  CopyResult<ProcLocation> location = Locate(caller, fd);
  if (!location.ok() || !location->known) return Hidden::kNothing;
  if (location->id != 0) {
    const bool descriptors = location->entry == "fd" || location->entry == "fdinfo";
    return descriptors ? Hidden::kReserved : Hidden::kNothing;
  }
  const bool rules = HasFileRules(caller) && !caller.guard->rules().audit;
  return rules && location->entry.empty() ? Hidden::kProcesses : Hidden::kNothing;
}

std::size_t HideNumbers(std::span<std::byte> entries, std::size_t name_offset,
                        absl::FunctionRef<bool(int)> hides);

std::size_t Hide(Hidden hidden, std::span<std::byte> entries, const Caller& caller,
                 std::size_t name_offset) {
  if (hidden == Hidden::kReserved) return HideReserved(entries, caller.reserved, name_offset);
  return HideNumbers(entries, name_offset, [](int number) { return !IsOwnTask(number); });
}

// A listing without the entries for the runtime's descriptors.
SyscallResult List(Caller& caller, const ArgumentValues& arguments, std::uint64_t number,
                   std::size_t name_offset);

}  // namespace

namespace {

// Removes the entries whose names are numbers that `hides` is true for.
std::size_t HideNumbers(std::span<std::byte> entries, std::size_t name_offset,
                        absl::FunctionRef<bool(int)> hides) {
  std::size_t kept = 0;
  std::size_t position = 0;
  while (position + sizeof(DirectoryEntry) <= entries.size()) {
    DirectoryEntry entry{};
    std::memcpy(&entry, &entries[position], sizeof(entry));
    if (entry.length < sizeof(entry) || entry.length > entries.size() - position) break;
    const auto* name = reinterpret_cast<const char*>(&entries[position + name_offset]);
    const int number = ParseProcNumber({name, strnlen(name, entry.length - name_offset)});
    if (number < 0 || !hides(number)) {
      std::memmove(&entries[kept], &entries[position], entry.length);
      kept += entry.length;
    }
    position += entry.length;
  }
  return kept;
}

}  // namespace

std::size_t HideReserved(std::span<std::byte> entries, ReservedDescriptors reserved,
                         std::size_t name_offset) {
  return HideNumbers(entries, name_offset, [&](int number) {
    return reserved.Contains(static_cast<std::uint64_t>(number));
  });
}

SyscallResult HandleReadlink(Caller& caller, const ArgumentValues& arguments) {
  return ReadLink(caller, AT_FDCWD, arguments[0], arguments[1], AsInt(arguments[2]));
}

SyscallResult HandleReadlinkat(Caller& caller, const ArgumentValues& arguments) {
  return ReadLink(caller, AsInt(arguments[0]), arguments[1], arguments[2], AsInt(arguments[3]));
}

SyscallResult HandleGetdents(Caller& caller, const ArgumentValues& arguments) {
  return List(caller, arguments, SYS_getdents, kOldNameOffset);
}

SyscallResult HandleGetdents64(Caller& caller, const ArgumentValues& arguments) {
  return List(caller, arguments, SYS_getdents64, kNameOffset);
}

namespace {

SyscallResult List(Caller& caller, const ArgumentValues& arguments, std::uint64_t number,
                   std::size_t name_offset) {
  const int fd = AsInt(arguments[0]);
  const std::size_t count = static_cast<std::uint32_t>(arguments[2]);
  if (!caller.memory.Contains(arguments[1], count)) return Errno{EFAULT};
  const Hidden hidden = HiddenIn(caller, fd);
  if (hidden == Hidden::kNothing) {
    return HostCall(caller, number, Arguments(fd, arguments[1], count));
  }
  std::vector<std::byte> listing(std::min(count, kMostListing));
  for (;;) {
    const SyscallResult got =
        RuntimeCall(caller, number, Arguments(fd, listing.data(), listing.size()));
    if (!got.ok() || got.value() == 0) return got;
    const auto entries = std::span(listing).first(static_cast<std::size_t>(got.value()));
    const std::size_t kept = Hide(hidden, entries, caller, name_offset);
    if (kept == 0) continue;  // 0 would mean the end
    if (!caller.memory.Write(arguments[1], entries.first(kept))) return Errno{EFAULT};
    return SyscallResult(static_cast<std::int64_t>(kept));
  }
}

}  // namespace

void RegisterProcViewHandlers(HandlerTable& handlers) {
  handlers.Bind("readlink", HandleReadlink);
  handlers.Bind("readlinkat", HandleReadlinkat);
  handlers.Bind("getdents", HandleGetdents);
  handlers.Bind("getdents64", HandleGetdents64);
}

}  // namespace dunebox::hostcalls
