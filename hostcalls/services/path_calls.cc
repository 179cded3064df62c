#include "hostcalls/services/path_calls.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "hostcalls/services/limits.h"
#include "hostcalls/services/pinned_path.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr int kNone = -1;

enum class LastLink : unsigned char { kFollowed, kItself };
enum class PathUse : unsigned char { kLookedAt, kChanged, kWritten, kLinked, kNamed };

struct PathCall {
  std::string_view call;
  int directory;
  int path;
  int flags;
  std::uint64_t bit;
  LastLink last;
  PathUse use;
  std::string_view pinned_call;
};

constexpr PathCall kPathCalls[] = {
#define PATH_CALL(call, directory, path, flags, bit, last, use, pinned) \
  {#call, directory, path, flags, bit, LastLink::last, PathUse::use, #pinned},
#include "hostcalls/services/path_calls.inc"
#undef PATH_CALL
};

// From a call's number to its rows, which stand together; null when there is none.
const PathCall* FirstPathOf(const Row& row) {
  static const auto first = [] {
    std::array<const PathCall*, kSyscallTableSize> calls{};
    for (const PathCall& call : kPathCalls) {
      const PathCall*& entry = calls[FindRow(call.call)->number];
      if (entry == nullptr) entry = &call;
    }
    return calls;
  }();
  return first[row.number];
}

std::uint64_t& At(ArgumentValues& values, int index) {
  return values[static_cast<std::size_t>(index)];
}

// One path of one call.
class PathLookup {
 public:
  PathLookup(Caller& caller, const PathCall& call, const ArgumentValues& values)
      : caller_(caller),
        call_(call),
        directory_(call.directory == kNone
                       ? AT_FDCWD
                       : AsInt(values[static_cast<std::size_t>(call.directory)])),
        path_(reinterpret_cast<const char*>(values[static_cast<std::size_t>(call.path)])),
        flags_(call.flags == kNone ? 0 : values[static_cast<std::size_t>(call.flags)]) {}

  bool follows() const {
    return (call_.last == LastLink::kFollowed) != ((flags_ & call_.bit) != 0);
  }
  PathUse use() const {
    return call_.use == PathUse::kLinked && !follows() ? PathUse::kNamed : call_.use;
  }
  // Does the path name something by a number that a descriptor of the runtime's has?
  bool HasReservedNumber() const;
  // Nothing leads to a root directory that is called by its own name.
  bool is_root() const { return path_.find_first_not_of('/') == std::string::npos; }
  // By fstatat with the call's own flags, where it has them.
  SyscallResult Look(struct stat& status) const;
  CopyResult<ReservedFd> Pin() const {
    return PinVisible(caller_, directory_, path_, follows() ? 0 : O_NOFOLLOW);
  }
  // ENOENT when the name, or something on the way to it, is an entry for a reserved number.
  SyscallResult CheckName() const;
  // Changes `values` so that they mean the pinned object.
  void Replace(ArgumentValues& values, const char* link) const;

 private:
  Caller& caller_;
  const PathCall& call_;
  const int directory_;
  const std::string path_;
  const std::uint64_t flags_;
};

bool PathLookup::HasReservedNumber() const {
  std::string_view rest = path_;
  while (!rest.empty()) {
    const std::string_view name = rest.substr(0, rest.find('/'));
    const int number = ParseProcNumber(name);
    if (number >= 0 && caller_.reserved.Contains(static_cast<std::uint64_t>(number))) return true;
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
  }
  return false;
}

SyscallResult PathLookup::Look(struct stat& status) const {
  const std::uint64_t own_flags = call_.call == "newfstatat" ? flags_ & ~call_.bit : 0;
  const std::uint64_t follow = follows() ? 0 : AT_SYMLINK_NOFOLLOW;
  return RuntimeCall(caller_, SYS_newfstatat,
                     Arguments(directory_, path_.c_str(), &status, own_flags | follow));
}

SyscallResult PathLookup::CheckName() const {
  CopyResult<PinnedParent> parent = PinParent(caller_, directory_, path_);
  if (!parent.ok()) return parent.error();
  CopyResult<ProcLocation> location = Locate(caller_, parent->directory.get());
  if (!location.ok()) return location.error();
  if (location->entry != "fd" && location->entry != "fdinfo") return kSuccess;
  const int number = ParseProcNumber(parent->name);
  const bool reserved =
      number >= 0 && caller_.reserved.Contains(static_cast<std::uint64_t>(number));
  return reserved ? SyscallResult(Errno{ENOENT}) : kSuccess;
}

void PathLookup::Replace(ArgumentValues& values, const char* link) const {
  At(values, call_.path) = AsArgument(link);
  if (call_.directory != kNone) {
    At(values, call_.directory) = AsArgument(NumberOf(ReservedSlot::kProc, caller_.reserved));
  }
  // The link leads to the object itself, be that a symbolic link: it has to be followed.
  if (call_.flags != kNone) {
    At(values, call_.flags) =
        call_.last == LastLink::kFollowed ? flags_ & ~call_.bit : flags_ | call_.bit;
  }
}

// Makes the call on the object, which is pinned first.
SyscallResult CallPinned(Caller& caller, const PathCall& call, const PathLookup& lookup,
                         const Row& row, ArgumentValues values) {
  const bool by_name = call.directory == kNone;
  if (by_name && caller.limits.root_changed) return HostCall(caller, row.number, values);
  CopyResult<ReservedFd> pinned = lookup.Pin();
  if (!pinned.ok()) return pinned.error();
  if (call.use == PathUse::kWritten && caller.limits.IsProgramFile(pinned->get())) {
    return Errno{ETXTBSY};
  }
  const std::string link = (by_name ? "/proc/" : "") + DescriptorLink(pinned->get());
  StagingScope staged(caller.staging);
  lookup.Replace(values, staged.PlaceAll(std::span(link.c_str(), link.size() + 1)).data());
  return HostCall(caller, FindRow(call.pinned_call)->number, values);
}

// stat, lstat and newfstatat have been made by looking; true when `to` is where the answer goes.
bool IsStat(const PathCall& call, const ArgumentValues& values, std::uint64_t& to) {
  if (call.pinned_call == "stat") to = values[1];
  if (call.call == "newfstatat") to = values[2];
  return call.pinned_call == "stat" || call.call == "newfstatat";
}

SyscallResult CallLookingAt(Caller& caller, const PathCall& call, const PathLookup& lookup,
                            const Row& row, const ArgumentValues& values) {
  if (lookup.HasReservedNumber()) return CallPinned(caller, call, lookup, row, values);
  struct stat status {};
  const SyscallResult looked = lookup.Look(status);
  if (looked.is_restart()) return looked;
  // What cannot be looked at cannot be hidden: the kernel's own answer, in its own order of errors.
  if (!looked.ok()) return HostCall(caller, row.number, values);
  const bool hidden = caller.limits.MayBeHidden(status) && !lookup.is_root();
  if (hidden) return CallPinned(caller, call, lookup, row, values);
  std::uint64_t to = 0;
  if (!IsStat(call, values, to)) return HostCall(caller, row.number, values);
  return caller.memory.CopyOut(GuestPtr<struct stat>{to}, status);
}

}  // namespace

SyscallResult CallWithPaths(Caller& caller, const Row& row, const ArgumentValues& values) {
  const PathCall* const first = FirstPathOf(row);
  if (first == nullptr) return HostCall(caller, row.number, values);
  for (const PathCall& call : std::span(first, std::end(kPathCalls))) {
    if (call.call != first->call) break;
    const auto* path = reinterpret_cast<const char*>(values[static_cast<std::size_t>(call.path)]);
    if (path == nullptr || *path == '\0') continue;
    const PathLookup lookup(caller, call, values);
    switch (lookup.use()) {
      case PathUse::kLookedAt:
        return CallLookingAt(caller, call, lookup, row, values);
      case PathUse::kChanged:
      case PathUse::kWritten:
      case PathUse::kLinked:
        return CallPinned(caller, call, lookup, row, values);
      case PathUse::kNamed:
        if (!lookup.HasReservedNumber()) break;
        if (const SyscallResult named = lookup.CheckName(); !named.ok()) return named;
        break;
    }
  }
  return HostCall(caller, row.number, values);
}

bool IsPathArgument(const Row& row, int index) {
  return std::ranges::any_of(kPathCalls, [&](const PathCall& call) {
    return call.call == row.name && call.path == index;
  });
}

}  // namespace dunebox::hostcalls
