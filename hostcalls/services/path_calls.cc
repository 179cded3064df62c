#include "hostcalls/services/path_calls.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/pinned_path.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr int kNone = -1;

enum class LastLink : unsigned char { kFollowed, kItself };
enum class PathUse : unsigned char { kLookedAt, kChanged, kWritten, kLinked, kNamed };
enum class PathRight : unsigned char {
  kLookUp,
  kRead,
  kWrite,
  kAttributes,
  kCreate,
  kAsked,  // those in the argument after the path: access()
};

struct PathCall {
  std::string_view call;
  int directory;
  int path;
  int flags;
  std::uint64_t bit;
  LastLink last;
  PathUse use;
  std::string_view pinned_call;
  PathRight right;
};

constexpr PathCall kPathCalls[] = {
#define DESCRIPTOR_CALL(call, by_path, right)
#define PATH_CALL(call, directory, path, flags, bit, last, use, pinned, right) \
  {#call, directory, path, flags, bit, LastLink::last, PathUse::use, #pinned, PathRight::right},
#include "hostcalls/services/path_calls.inc"
#undef PATH_CALL
#undef DESCRIPTOR_CALL
};

struct DescriptorCall {
  std::string_view call;
  std::string_view by_path;
  PathRight right;
};

constexpr DescriptorCall kDescriptorCalls[] = {
#define PATH_CALL(...)
#define DESCRIPTOR_CALL(call, by_path, right) {#call, #by_path, PathRight::right},
#include "hostcalls/services/path_calls.inc"
#undef DESCRIPTOR_CALL
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

// Null is an empty path to those calls that take one.
std::string TextOf(std::uint64_t path) {
  return path == 0 ? std::string() : std::string(reinterpret_cast<const char*>(path));
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
        path_(TextOf(values[static_cast<std::size_t>(call.path)])),
        flags_(call.flags == kNone ? 0 : values[static_cast<std::size_t>(call.flags)]) {}

  bool follows() const {
    return (call_.last == LastLink::kFollowed) != ((flags_ & call_.bit) != 0);
  }
  bool takes_empty_path() const { return (flags_ & AT_EMPTY_PATH) != 0; }
  PathUse use() const {
    return call_.use == PathUse::kLinked && !follows() ? PathUse::kNamed : call_.use;
  }
  // Does the path name something by a number that a descriptor of the runtime's has?
  bool HasReservedNumber() const;
  // Nothing leads to a root directory that is called by its own name.
  bool is_root() const { return path_.find_first_not_of('/') == std::string::npos; }
  // By fstatat with the call's own flags, where it has them.
  SyscallResult Look(struct stat& status) const;
  // The rest of `options` is the lookup's.
  CopyResult<ReservedFd> Pin(PinOptions options = {}) const {
    options.flags = follows() ? 0 : O_NOFOLLOW;
    return PinVisible(caller_, directory_, path_, options);
  }
  int directory() const { return directory_; }
  const std::string& path() const { return path_; }
  // ENOENT when the name, or something on the way to it, is an entry for a reserved number.
  SyscallResult CheckName() const;
  // Changes `values` so that they mean the pinned object.
  void Replace(ArgumentValues& values, int directory, const char* link) const;

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

void PathLookup::Replace(ArgumentValues& values, int directory, const char* link) const {
  At(values, call_.path) = AsArgument(link);
  if (call_.directory != kNone) At(values, call_.directory) = AsArgument(directory);
  // The link leads to the object itself, be that a symbolic link: it has to be followed.
  if (call_.flags != kNone) {
    At(values, call_.flags) =
        call_.last == LastLink::kFollowed ? flags_ & ~call_.bit : flags_ | call_.bit;
  }
}

// Makes the call on a pinned object.
SyscallResult CallOn(Caller& caller, const PathCall& call, const PathLookup& lookup,
                     const ReservedFd& pinned, ArgumentValues values) {
  if (call.use == PathUse::kWritten && caller.limits.IsProgramFile(pinned.get())) {
    return Errno{ETXTBSY};
  }
  const DescriptorPlace place = call.directory == kNone
                                    ? DescriptorPlace{.directory = kNone, .name = "/proc/" + DescriptorLink(pinned.get())}
                                    : PlaceOf(caller, pinned.get());
  StagingScope staged(caller.staging);
  lookup.Replace(values, place.directory,
                 staged.PlaceAll(std::span(place.name.c_str(), place.name.size() + 1)).data());
  return HostCall(caller, FindRow(call.pinned_call)->number, values);
}

// Makes the call on the object, which is pinned first.
SyscallResult CallPinned(Caller& caller, const PathCall& call, const PathLookup& lookup,
                         const Row& row, const ArgumentValues& values) {
  const bool by_name = call.directory == kNone;
  if (by_name && caller.limits.root_changed) return HostCall(caller, row.number, values);
  CopyResult<ReservedFd> pinned = lookup.Pin({.is_brief = true});
  if (!pinned.ok()) return pinned.error();
  return CallOn(caller, call, lookup, *pinned, values);
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

// ---- Under file rules ---------------------------------------------------------------------------

policy::FileRights RightsFor(PathRight right, std::uint64_t asked, int pinned) {
  switch (right) {
    case PathRight::kLookUp:
      return policy::kNoRights;
    case PathRight::kRead:
      return policy::kReadFile;
    case PathRight::kWrite:
      return policy::kWriteFile;
    case PathRight::kAttributes:
      // Not of what may only be written to: a device is everybody's.
      return policy::kWriteFile | policy::kCreateFile;
    case PathRight::kCreate:
      return policy::kCreateFile;
    case PathRight::kAsked:
      break;
  }
  policy::FileRights rights = policy::kNoRights;
  if ((asked & R_OK) != 0) rights |= policy::kReadFile;
  if ((asked & W_OK) != 0) rights |= policy::kWriteFile;
  // Of a directory X_OK asks whether names in it may be looked up.
  struct stat status {};
  const bool directory = fstat(pinned, &status) == 0 && S_ISDIR(status.st_mode);
  if ((asked & X_OK) != 0 && !directory) rights |= policy::kExecuteFile;
  return rights;
}

const char* PathOf(const PathCall& call, const ArgumentValues& values) {
  return reinterpret_cast<const char*>(values[static_cast<std::size_t>(call.path)]);
}

// What a call does to an object that exists.
SyscallResult CallOnAllowed(Caller& caller, const PathCall& call, const PathLookup& lookup,
                            const ArgumentValues& values) {
  int descriptor = -1;
  CopyResult<ReservedFd> pinned = lookup.Pin({.is_brief = true, .descriptor = &descriptor});
  if (!pinned.ok()) {
    return TellFailure(caller, lookup.directory(), lookup.path(), pinned.error());
  }
  const std::uint64_t asked = values[static_cast<std::size_t>(call.path) + 1];
  const SyscallResult allowed =
      RequireReopen(caller, pinned->get(), RightsFor(call.right, asked, pinned->get()), descriptor);
  return allowed.ok() ? CallOn(caller, call, lookup, *pinned, values) : allowed;
}

// The same where the path is empty or null: the object is that of the descriptor in its place, when
// the call takes one. The kernel looks there by itself for calls that only look.
SyscallResult CallOnDescriptor(Caller& caller, const PathCall& call, const PathLookup& lookup,
                               const Row& row, const ArgumentValues& values) {
  const bool looks = call.right == PathRight::kLookUp || call.right == PathRight::kAsked;
  if (looks) return HostCall(caller, row.number, values);
  const int directory = lookup.directory();
  if (PathOf(call, values) == nullptr) {
    if (directory == AT_FDCWD) return Errno{EFAULT};
  } else if (!lookup.takes_empty_path()) {
    return Errno{ENOENT};
  }
  CopyResult<ReservedFd> pinned = directory == AT_FDCWD ? PinObject(caller, AT_FDCWD, ".", {})
                                                        : PinDescriptor(caller, directory);
  if (!pinned.ok()) return pinned.error();
  const policy::FileRights rights = RightsFor(call.right, 0, pinned->get());
  const SyscallResult allowed = RequireReopen(caller, pinned->get(), rights, directory);
  return allowed.ok() ? CallOn(caller, call, lookup, *pinned, values) : allowed;
}

// fchmod() and its like.
SyscallResult CallByDescriptor(Caller& caller, const DescriptorCall& call, ArgumentValues values) {
  const int fd = AsInt(values[0]);
  const int flags = fcntl(fd, F_GETFL);
  // The kernel takes descriptors that give no access for fchdir() only.
  const bool usable = flags >= 0 && ((flags & O_PATH) == 0 || call.right == PathRight::kLookUp);
  if (!usable) return Errno{EBADF};
  CopyResult<ReservedFd> pinned = PinDescriptor(caller, fd);
  if (!pinned.ok()) return pinned.error();
  const SyscallResult allowed =
      RequireReopen(caller, pinned->get(), RightsFor(call.right, 0, pinned->get()), fd);
  if (!allowed.ok()) return allowed;
  const std::string link = "/proc/" + DescriptorLink(pinned->get());
  StagingScope staged(caller.staging);
  values[0] = AsArgument(staged.PlaceAll(std::span(link.c_str(), link.size() + 1)).data());
  return HostCall(caller, FindRow(call.by_path)->number, values);
}

// The directory of a path's last component, which is never followed, and that component. Slashes
// behind it, which ask for a directory, stay with it. Of the root: ".".
CopyResult<PinnedParent> PinEntry(Caller& caller, int directory, std::string path) {
  if (path.empty()) return Errno{ENOENT};
  const std::size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return PinParent(caller, directory, "/.");
  const std::string slashes = path.substr(end + 1);
  path.resize(end + 1);
  CopyResult<PinnedParent> parent = PinParent(caller, directory, path);
  if (parent.ok()) parent->name += slashes;
  return parent;
}

// A device would give what its driver gives, wherever it lies.
SyscallResult RequireNoDevice(Caller& caller, const PathLookup& lookup, std::uint64_t mode) {
  if (!S_ISCHR(mode) && !S_ISBLK(mode)) return kSuccess;
  const policy::Denial denial{.action = "create",
                              .object = "device " + lookup.path(),
                              .origin = 0,
                              .cure = "--allow=all",
                              .error = EPERM};
  return caller.guard->Refuse(caller, denial) ? SyscallResult(Errno{EPERM}) : kSuccess;
}

// A call that makes, removes or moves names.
class NamedCall {
 public:
  NamedCall(Caller& caller, const Row& row, std::span<const PathCall> paths,
            const ArgumentValues& values)
      : caller_(caller), row_(row), paths_(paths), values_(values) {}

  SyscallResult Make();

 private:
  SyscallResult Require() const;
  SyscallResult Issue();

  Caller& caller_;
  const Row& row_;
  const std::span<const PathCall> paths_;
  ArgumentValues values_;
  std::vector<PinnedParent> parents_;
};

SyscallResult NamedCall::Make() {
  for (const PathCall& path : paths_) {
    const PathLookup lookup(caller_, path, values_);
    CopyResult<PinnedParent> parent = PinEntry(caller_, lookup.directory(), lookup.path());
    if (!parent.ok()) {
      return TellFailure(caller_, lookup.directory(), lookup.path(), parent.error());
    }
    parents_.push_back(*std::move(parent));
    const std::uint64_t mode = values_[static_cast<std::size_t>(path.path) + 1];
    if (!path.call.starts_with("mknod")) continue;
    if (SyscallResult made = RequireNoDevice(caller_, lookup, mode); !made.ok()) return made;
  }
  const SyscallResult allowed = Require();
  return allowed.ok() ? Issue() : allowed;
}

SyscallResult NamedCall::Require() const {
  if (parents_.size() == 2) return RequireMove(caller_, parents_[0], parents_[1]);
  return RequireEntry(caller_, parents_[0], RightsFor(paths_[0].right, 0, -1));
}

SyscallResult NamedCall::Issue() {
  StagingScope staged(caller_.staging);
  for (std::size_t i = 0; i < parents_.size(); ++i) {
    const bool by_name = paths_[i].directory == kNone;
    const int directory = parents_[i].directory.get();
    std::string& path = parents_[i].name;  // lives as long as the call
    if (by_name) path = absl::StrCat("/proc/", DescriptorLink(directory), "/", path);
    if (!by_name) At(values_, paths_[i].directory) = AsArgument(directory);
    At(values_, paths_[i].path) =
        AsArgument(staged.PlaceAll(std::span(path.c_str(), path.size() + 1)).data());
  }
  return HostCall(caller_, row_.number, values_);
}

// link() and linkat(): the object that gets the second name is held.
SyscallResult LinkAllowed(Caller& caller, std::span<const PathCall> paths,
                          const ArgumentValues& values) {
  const std::uint64_t flags =
      paths[0].flags == kNone ? 0 : values[static_cast<std::size_t>(paths[0].flags)];
  if ((flags & ~std::uint64_t{AT_SYMLINK_FOLLOW | AT_EMPTY_PATH}) != 0) return Errno{EINVAL};
  const PathLookup from(caller, paths[0], values);
  const PathLookup to(caller, paths[1], values);
  const bool empty = from.path().empty() && (flags & AT_EMPTY_PATH) != 0;
  CopyResult<ReservedFd> object = empty ? PinDescriptor(caller, from.directory()) : from.Pin();
  if (!object.ok()) return TellFailure(caller, from.directory(), from.path(), object.error());
  CopyResult<PinnedParent> parent = PinEntry(caller, to.directory(), to.path());
  if (!parent.ok()) return TellFailure(caller, to.directory(), to.path(), parent.error());
  const SyscallResult allowed = RequireLink(caller, object->get(), *parent);
  if (!allowed.ok()) return allowed;
  const std::string link = DescriptorLink(object->get());
  return RuntimeCall(caller, SYS_linkat,
                     Arguments(NumberOf(ReservedSlot::kProc, caller.reserved), link.c_str(),
                               parent->directory.get(), parent->name.c_str(), AT_SYMLINK_FOLLOW));
}

// The rows of `first`'s call.
std::span<const PathCall> RowsOf(const PathCall* first) {
  const auto end = std::find_if(first, std::end(kPathCalls),
                                [&](const PathCall& call) { return call.call != first->call; });
  return {first, end};
}

SyscallResult CallUnderRules(Caller& caller, const Row& row, const PathCall* first,
                             const ArgumentValues& values) {
  if (first == nullptr) {
    const auto by_descriptor = std::ranges::find(kDescriptorCalls, row.name, &DescriptorCall::call);
    if (by_descriptor == std::end(kDescriptorCalls)) return HostCall(caller, row.number, values);
    return CallByDescriptor(caller, *by_descriptor, values);
  }
  const std::span<const PathCall> paths = RowsOf(first);
  for (const PathCall& path : paths) {
    const bool by_descriptor = path.use != PathUse::kNamed && path.directory != kNone;
    if (PathOf(path, values) == nullptr && !by_descriptor) return Errno{EFAULT};
  }
  if (first->call == "link" || first->call == "linkat") return LinkAllowed(caller, paths, values);
  if (first->use == PathUse::kNamed) return NamedCall(caller, row, paths, values).Make();
  const char* const path = PathOf(*first, values);
  const PathLookup lookup(caller, *first, values);
  return path == nullptr || *path == '\0' ? CallOnDescriptor(caller, *first, lookup, row, values)
                                          : CallOnAllowed(caller, *first, lookup, values);
}

}  // namespace

SyscallResult CallWithPaths(Caller& caller, const Row& row, const ArgumentValues& values) {
  const PathCall* const first = FirstPathOf(row);
  if (HasFileRules(caller)) return CallUnderRules(caller, row, first, values);
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
