#include "hostcalls/services/file_rules.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/policy/cure.h"
#include "hostcalls/policy/object_name.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"
#include "hostcalls/trace/text.h"

namespace dunebox::hostcalls {
namespace {

using policy::FileRights;
using policy::kGone;
using policy::RightsAndOrigin;
using policy::Rules;

constexpr std::string_view kMemfd = "/memfd:";
constexpr FileRights kOwnProcess = policy::kReadFile;
// Which its process may write: what prctl does for the thread itself, a sibling does here.
constexpr std::string_view kThreadName = "comm";

// What each right is called; of several that are missing the first is told.
struct RightName {
  FileRights right;
  const char* action;
};
constexpr RightName kRightNames[] = {
    {policy::kCreateFile, "create"},
    {policy::kReadFile, "read"},
    {policy::kWriteFile, "write"},
    {policy::kExecuteFile, "execute"},
};
constexpr RightName kLookUp = {policy::kNoRights, "look up"};

const RightName& FirstMissing(FileRights missing) {
  for (const RightName& name : kRightNames) {
    if ((missing & name.right) != 0) return name;
  }
  return kLookUp;
}

std::string Parent(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return std::string(slash == 0 ? "/" : path.substr(0, slash));
}

std::string Below(const std::string& directory, const std::string& name) {
  return directory == "/" ? absl::StrCat("/", name) : absl::StrCat(directory, "/", name);
}

// ---- What is allowed on an object ---------------------------------------------------------------

struct Object {
  int fd;
  std::string name;
  ProcLocation location;
  RightsAndOrigin allowed;
  bool is_hidden = false;  // an entry of another process
};

CopyResult<Object> Examine(Caller& caller, int fd) {
  CopyResult<std::string> name = ObjectName(caller, fd);
  if (!name.ok()) return name.error();
  CopyResult<ProcLocation> location = LocateByName(fd, *name);
  if (!location.ok()) return location.error();
  Object object{.fd = fd, .name = *std::move(name), .location = *std::move(location), .allowed = {}, .is_hidden = false};
  object.allowed = RightsOnName(caller.guard->rules(), object.name);
  if (object.location.on_proc && object.location.id != 0) {
    if (IsOwnTask(object.location.id)) {
      object.allowed.rights |= kOwnProcess;
      if (object.location.entry == kThreadName) object.allowed.rights |= policy::kWriteFile;
    } else {
      object.is_hidden = true;
    }
  }
  return object;
}

bool IsLink(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISLNK(status.st_mode);
}

// Who may do anything with an object may know that it is there; so may who needs a directory on
// the way to something, or a symbolic link in one: /lib, where only /usr/lib has a rule.
bool MayLookUp(const Rules& rules, const Object& object) {
  if (object.allowed.rights != policy::kNoRights) return true;
  if (object.name.empty() || object.name.front() != '/') return false;
  return rules.LeadsToRights(object.name) ||
         (rules.LeadsToRights(Parent(object.name)) && IsLink(object.fd));
}

// The rights that the guest's descriptor has on the very object, which make opening it again
// nothing new. Whatever a sibling does to the number: the guest had that descriptor when asked.
FileRights RightsOfDescriptor(int descriptor, int pinned) {
  struct stat own {};
  struct stat object {};
  if (descriptor < 0 || fstat(descriptor, &own) != 0 || fstat(pinned, &object) != 0 ||
      own.st_dev != object.st_dev || own.st_ino != object.st_ino) {
    return policy::kNoRights;
  }
  const int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0) return policy::kNoRights;
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      return policy::kReadFile;
    case O_WRONLY:
      return policy::kWriteFile;
    case O_RDWR:
      return policy::kReadFile | policy::kWriteFile;
  }
  return policy::kNoRights;
}

// ---- Refusing -----------------------------------------------------------------------------------

SyscallResult Refuse(Caller& caller, const std::string& name, const RightsAndOrigin& allowed,
                     FileRights missing, int error = EACCES) {
  const RightName& right = FirstMissing(missing);
  const policy::Denial denial{.action = right.action,
                              .object = name,
                              .origin = allowed.origin,
                              .cure = policy::CureFor(right.right, name),
                              .error = error};
  return caller.guard->Refuse(caller, denial) ? SyscallResult(Errno{error}) : kSuccess;
}

SyscallResult RequireOn(Caller& caller, int pinned, FileRights needed, int descriptor,
                        std::optional<ProcLocation>* location) {
  CopyResult<Object> object = Examine(caller, pinned);
  if (!object.ok()) return object.error();
  if (location != nullptr) *location = object->location;
  if (object->is_hidden && !caller.guard->rules().audit) return Errno{ENOENT};
  const FileRights own = RightsOfDescriptor(descriptor, pinned);
  const auto missing = static_cast<FileRights>(needed & ~(object->allowed.rights | own));
  const bool allowed = needed != policy::kNoRights
                           ? missing == policy::kNoRights
                           : own != policy::kNoRights || MayLookUp(caller.guard->rules(), *object);
  return allowed ? kSuccess : Refuse(caller, object->name, object->allowed, missing);
}

// The name of an entry, and the name of its directory.
struct EntryName {
  std::string directory;
  std::string name;
};

CopyResult<EntryName> NameOf(const Caller& caller, const PinnedParent& parent) {
  CopyResult<std::string> directory = ObjectName(caller, parent.directory.get());
  if (!directory.ok()) return directory.error();
  std::string name = Below(*directory, parent.name);
  return EntryName{.directory = *std::move(directory), .name = std::move(name)};
}

// Both the directory and the name itself: a rule on the name alone does not let it be replaced in
// a directory that is not the program's, and one that takes rights from it keeps it where it is.
SyscallResult RequireOnEntry(Caller& caller, const EntryName& entry, FileRights needed) {
  const Rules& rules = caller.guard->rules();
  for (const std::string& name : {entry.directory, entry.name}) {
    const RightsAndOrigin allowed = RightsOnName(rules, name);
    const auto missing = static_cast<FileRights>(needed & ~allowed.rights);
    if (missing == policy::kNoRights) continue;
    return Refuse(caller, entry.name, allowed, missing);
  }
  return kSuccess;
}

CopyResult<std::string> NameAt(const DescriptorPlace& place) {
  std::string name(PATH_MAX, '\0');
  const ssize_t length = readlinkat(place.directory, place.name.c_str(), name.data(), name.size());
  if (length < 0) return LastErrno();
  // A name that does not fit is cut by the kernel, and would be another one's.
  if (static_cast<std::size_t>(length) == name.size()) return Errno{EACCES};
  name.resize(static_cast<std::size_t>(length));
  return name;
}

}  // namespace

CopyResult<std::string> ObjectName(ReservedDescriptors reserved, int fd) {
  return NameAt({.directory = NumberOf(ReservedSlot::kProc, reserved), .name = DescriptorLink(fd)});
}

CopyResult<std::string> ObjectName(const Caller& caller, int fd) { return NameAt(PlaceOf(caller, fd)); }

// A removed file keeps the rights of its last name. A file may be called "x (deleted)" too: then
// both readings have to allow it.
RightsAndOrigin RightsOnName(const Rules& rules, std::string_view name) {
  RightsAndOrigin allowed = rules.RightsOn(name);
  if (!name.ends_with(kGone)) return allowed;
  if (name.starts_with(kMemfd)) return {.rights = policy::kExecuteFile | policy::kCreateFile};
  allowed.rights &= rules.RightsOn(name.substr(0, name.size() - kGone.size())).rights;
  return allowed;
}

SyscallResult RequireRights(Caller& caller, int pinned, FileRights needed) {
  return RequireReopen(caller, pinned, needed, -1);
}

SyscallResult RequireRightsOnName(Caller& caller, const std::string& name, FileRights needed) {
  if (!HasFileRules(caller)) return kSuccess;
  const RightsAndOrigin allowed = RightsOnName(caller.guard->rules(), name);
  const auto missing = static_cast<FileRights>(needed & ~allowed.rights);
  return missing == policy::kNoRights ? kSuccess : Refuse(caller, name, allowed, missing);
}

SyscallResult RequireReopen(Caller& caller, int pinned, FileRights needed, int descriptor,
                            std::optional<ProcLocation>* location) {
  if (!HasFileRules(caller)) return kSuccess;
  return RequireOn(caller, pinned, needed, descriptor, location);
}

SyscallResult RequireEntry(Caller& caller, const PinnedParent& parent, FileRights needed) {
  if (!HasFileRules(caller)) return kSuccess;
  CopyResult<EntryName> entry = NameOf(caller, parent);
  if (!entry.ok()) return entry.error();
  return RequireOnEntry(caller, *entry, needed);
}

SyscallResult RequireMove(Caller& caller, const PinnedParent& from, const PinnedParent& to) {
  if (!HasFileRules(caller)) return kSuccess;
  CopyResult<EntryName> source = NameOf(caller, from);
  if (!source.ok()) return source.error();
  CopyResult<EntryName> target = NameOf(caller, to);
  if (!target.ok()) return target.error();
  for (const EntryName* entry : {&*source, &*target}) {
    const SyscallResult checked = RequireOnEntry(caller, *entry, policy::kCreateFile);
    if (!checked.ok()) return checked;
  }
  const Rules& rules = caller.guard->rules();
  const RightsAndOrigin before = RightsOnName(rules, source->name);
  const RightsAndOrigin after = RightsOnName(rules, target->name);
  const bool has_rules = rules.HasRuleBelow(source->name) || rules.HasRuleBelow(target->name);
  if (before.rights == after.rights && !has_rules) return kSuccess;
  return Refuse(caller, target->name, after, policy::kCreateFile, EXDEV);
}

SyscallResult RequireLink(Caller& caller, int pinned, const PinnedParent& to) {
  if (!HasFileRules(caller)) return kSuccess;
  CopyResult<EntryName> target = NameOf(caller, to);
  if (!target.ok()) return target.error();
  SyscallResult checked = RequireOnEntry(caller, *target, policy::kCreateFile);
  if (!checked.ok()) return checked;
  CopyResult<Object> source = Examine(caller, pinned);
  if (!source.ok()) return source.error();
  const RightsAndOrigin after = RightsOnName(caller.guard->rules(), target->name);
  const auto gained = static_cast<FileRights>(after.rights & ~source->allowed.rights);
  if (gained == policy::kNoRights) return kSuccess;
  return Refuse(caller, source->name, source->allowed, gained, EXDEV);
}

SyscallResult TellFailure(Caller& caller, int directory, const std::string& path,
                          SyscallResult error) {
  if (!HasFileRules(caller) || caller.guard->rules().audit) return error;
  if (error.error() != ENOENT && error.error() != ENOTDIR && error.error() != ELOOP) return error;
  std::string_view rest = path;
  while (!rest.empty()) {
    while (!rest.empty() && rest.back() == '/') rest.remove_suffix(1);
    const std::size_t slash = rest.rfind('/');
    rest = slash == std::string_view::npos ? std::string_view() : rest.substr(0, slash);
    const std::string_view start = slash == std::string_view::npos ? "." : "/";
    const std::string parent(rest.empty() ? start : rest);
    CopyResult<ReservedFd> pinned = PinObject(caller, directory, parent, {.is_brief = true});
    if (!pinned.ok()) continue;
    CopyResult<Object> object = Examine(caller, pinned->get());
    if (!object.ok()) return object.error();
    if (object->is_hidden || MayLookUp(caller.guard->rules(), *object)) return error;
    caller.denied_by =
        absl::StrCat("policy: what is in ", Escape(object->name), " may not be known");
    return Errno{EACCES};
  }
  return error;
}

}  // namespace dunebox::hostcalls
