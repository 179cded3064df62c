#include "hostcalls/services/open.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/pinned_path.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"
#include "hostcalls/services/text_file.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::uint64_t kLargeFile = 0100000;  // O_LARGEFILE: the C library has 0 for it here
constexpr std::uint64_t kTemporaryFile = O_TMPFILE & ~O_DIRECTORY;
constexpr std::uint64_t kPathFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr std::uint64_t kKnownFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                                      O_NONBLOCK | O_SYNC | O_ASYNC | O_DIRECT | kLargeFile |
                                      O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH |
                                      kTemporaryFile;
constexpr std::uint64_t kKnownMode = 07777;
// Against others that create and remove the same name; also more than a chain of links can have.
constexpr int kMostAttempts = 64;

bool HasAll(std::uint64_t flags, std::uint64_t bits) { return (flags & bits) == bits; }

// ---- The quick way ------------------------------------------------------------------------------

// Errors that may come from how we asked rather than from the path: leaving the mount, magic
// links, ".." during a rename, a kernel without openat2, and (ENOTDIR) a guest that has changed
// its root. All others are what the guest would have got.
bool SaysNothing(SyscallResult result) {
  const int error = result.error();
  return error == EXDEV || error == ELOOP || error == EAGAIN || error == ENOTDIR ||
         error == EBADF || error == ENOSYS;
}

SyscallResult OpenOnRootMount(Caller& caller, const OpenRequest& request) {
  open_how how = request.how;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  return HostOpenAt2(caller, NumberOf(ReservedSlot::kRoot, caller.reserved), request.path, how);
}

// ---- The careful way ----------------------------------------------------------------------------

// Opens a pinned object that has been looked at.
SyscallResult Reopen(Caller& caller, const ReservedFd& pinned, const open_how& how) {
  // The link has to be followed, and the object is there already.
  constexpr std::uint64_t kDropped = O_NOFOLLOW | O_CREAT;
  const DescriptorPlace place = PlaceOf(caller, pinned.get());
  return RuntimeCall(caller, SYS_openat,
                     Arguments(place.directory, place.name.c_str(), how.flags & ~kDropped, how.mode));
}

bool ForWriting(const open_how& how) { return (how.flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY; }

// What the kernel has in a file of procfs: read now, through a descriptor of its own.
CopyResult<std::string> KernelText(Caller& caller, const ReservedFd& pinned) {
  const LowDescriptors::Window window(caller.limits.low_descriptors);
  const SyscallResult opened = Reopen(caller, pinned, {.flags = O_RDONLY | O_CLOEXEC});
  if (!opened.ok()) return ErrorOf(opened);
  const ReservedFd low(static_cast<int>(opened.value()));
  constexpr std::size_t kAtOnce = 4096;
  std::string text;
  for (std::size_t length = 0;;) {
    text.resize(length + kAtOnce);
    const ssize_t size = read(low.get(), text.data() + length, kAtOnce);
    if (size < 0) return LastErrno();
    length += static_cast<std::size_t>(size);
    text.resize(length);
    if (size == 0) return text;
  }
}

CopyResult<std::string> TextFor(Caller& caller, const ReservedFd& pinned, ProcAnswer answer, bool own) {
  if (answer != ProcAnswer::kStatus && answer != ProcAnswer::kProcessors) return ProcText(caller.process, answer);
  CopyResult<std::string> text = KernelText(caller, pinned);
  if (!text.ok()) return text;
  if (answer == ProcAnswer::kProcessors) return HideFlags(*text, caller.process.HiddenProcessorFlags());
  return HideAddresses(*text, own ? caller.process.FormatMaps() : "");
}

SyscallResult OpenText(Caller& caller, const ReservedFd& pinned, ProcAnswer answer, bool own,
                       const open_how& how) {
  if (ForWriting(how)) return Errno{EACCES};
  CopyResult<std::string> text = TextFor(caller, pinned, answer, own);
  if (!text.ok()) return text.error();
  CopyResult<ReservedFd> file = MakeTextFile(caller, *text);
  if (!file.ok()) return file.error();
  return Reopen(caller, *file, how);
}

// What opening an existing object so takes. Without any it is looked up (O_PATH).
policy::FileRights RightsToOpen(const open_how& how) {
  if ((how.flags & O_PATH) != 0) return policy::kNoRights;
  policy::FileRights rights = policy::kNoRights;
  const std::uint64_t mode = how.flags & O_ACCMODE;
  if (mode != O_WRONLY) rights |= policy::kReadFile;
  if (ForWriting(how)) rights |= policy::kWriteFile;
  if (HasAll(how.flags, kTemporaryFile)) rights |= policy::kCreateFile;
  return rights;
}

// `location`: Locate's of it, if that is known.
SyscallResult OpenPinned(Caller& caller, const ReservedFd& pinned, const open_how& how,
                         std::optional<ProcLocation> location) {
  if ((how.flags & O_PATH) != 0) {
    // Gives no access by itself: opening it comes here again.
    const int command = (how.flags & O_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD;
    return HostCall(caller, SYS_fcntl, Arguments(pinned.get(), command, 0));
  }
  if (!location) {
    CopyResult<ProcLocation> found = Locate(caller, pinned.get());
    if (!found.ok()) return found.error();
    location = *std::move(found);
  }
  if (!location->on_proc) {
    // The kernel says so for a program that runs; what it sees running is the runtime.
    if (ForWriting(how) && caller.limits.IsProgramFile(pinned.get())) return Errno{ETXTBSY};
    return Reopen(caller, pinned, how);
  }
  // fdinfo of the runtime's descriptors, which their directory does not list either.
  if (IsOfReserved(*location, caller.reserved)) return Errno{ENOENT};
  const bool own = IsOwnTask(location->id);
  ProcAnswer answer = DecideProc(*location, own);
  if (answer == ProcAnswer::kCommandLine && caller.process.CommandLine().empty()) {
    answer = ProcAnswer::kPass;
  }
  if (answer == ProcAnswer::kRefuse) return Errno{EACCES};
  if (answer == ProcAnswer::kPass) return Reopen(caller, pinned, how);
  return OpenText(caller, pinned, answer, own, how);
}

SyscallResult OpenExisting(Caller& caller, const OpenRequest& request) {
  int descriptor = -1;
  const PinOptions options{.flags = request.how.flags & (O_NOFOLLOW | O_DIRECTORY),
                           .resolve = request.how.resolve,
                           .is_brief = true,
                           .descriptor = &descriptor};
  CopyResult<ReservedFd> pinned = PinObject(caller, request.directory, request.path, options);
  if (!pinned.ok()) return pinned.error();
  // Before anything of it is told, and before FIFOs and devices notice that they are opened.
  std::optional<ProcLocation> location;
  const SyscallResult allowed =
      RequireReopen(caller, pinned->get(), RightsToOpen(request.how), descriptor, &location);
  if (!allowed.ok()) return allowed;
  if ((request.how.flags & O_CREAT) != 0) {
    struct stat status {};
    if (fstat(pinned->get(), &status) != 0) return LastErrno();
    if (S_ISDIR(status.st_mode)) return Errno{EISDIR};
  }
  return OpenPinned(caller, *pinned, request.how, std::move(location));
}

// In a directory that is held, so that what is created is what was asked about.
SyscallResult CreateUnderRules(Caller& caller, const OpenRequest& request, open_how how) {
  CopyResult<PinnedParent> parent =
      PinParent(caller, request.directory, request.path, request.how.resolve);
  if (!parent.ok()) return parent.error();
  const policy::FileRights rights = RightsToOpen(how) | policy::kCreateFile;
  const SyscallResult allowed = RequireEntry(caller, *parent, rights);
  if (!allowed.ok()) return allowed;
  how.resolve = 0;
  return HostOpenAt2(caller, parent->directory.get(), parent->name, how);
}

// Creates the file, or EEXIST: for anything that is there, a link to nowhere included.
SyscallResult CreateNew(Caller& caller, const OpenRequest& request) {
  open_how how = request.how;
  how.flags |= O_EXCL;
  // A slash at the end never creates; the kernel has the error.
  if (HasFileRules(caller) && request.path.back() != '/') {
    return CreateUnderRules(caller, request, how);
  }
  // With O_EXCL there is no old object to open by mistake; magic links stay out for the sake of
  // those that lead into the runtime's directories.
  if (how.resolve == 0) how.resolve = RESOLVE_NO_MAGICLINKS;
  const SyscallResult created = HostOpenAt2(caller, request.directory, request.path, how);
  if (created.error() != ELOOP || request.how.resolve != 0) return created;
  CopyResult<PinnedParent> parent = PinParent(caller, request.directory, request.path);
  if (!parent.ok()) return parent.error();
  return HostOpenAt2(caller, parent->directory.get(), parent->name, how);
}

// Where a symbolic link to a file that is not there yet leads: changes `request` to its target and
// keeps in `base` what that is relative to. Success also when there is no such link any more.
SyscallResult FollowDanglingLink(Caller& caller, OpenRequest& request, ReservedFd& base) {
  CopyResult<PinnedParent> parent = PinParent(caller, request.directory, request.path);
  if (!parent.ok()) return parent.error();
  CopyResult<ProcLocation> location = Locate(caller, parent->directory.get());
  if (!location.ok()) return location.error();
  // A magic link says what it leads to, but that is no path to it. There is nothing behind it.
  if (IsMagicLink(*location, parent->name)) return Errno{ENOENT};
  CopyResult<std::string> target = ReadLinkText(caller, parent->directory.get(), parent->name);
  if (!target.ok()) {
    const int error = target.error().value;
    return error == EINVAL || error == ENOENT ? kSuccess : SyscallResult(target.error());
  }
  base = std::move(parent->directory);
  request.directory = base.get();
  request.path = *std::move(target);
  return kSuccess;
}

// O_CREAT without O_EXCL. Natively one step; here the steps are repeated when somebody else
// creates or removes the file between them. (fs.protected_regular, which refuses to open another's
// file in a sticky directory with O_CREAT, has no effect: the host sees no O_CREAT.)
SyscallResult OpenOrCreate(Caller& caller, OpenRequest request) {
  ReservedFd base;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    const SyscallResult opened = OpenExisting(caller, request);
    if (opened.error() != ENOENT) return opened;
    const SyscallResult created = CreateNew(caller, request);
    if (created.error() != EEXIST) return created;
    // Created by somebody else just now, or a link to nowhere. Where lookups are confined, such a
    // link is not followed: its target would have to be confined too.
    if (request.how.resolve != 0) continue;
    const SyscallResult followed = FollowDanglingLink(caller, request, base);
    if (!followed.ok()) return followed;
  }
  return Errno{ENOENT};
}

SyscallResult OpenCarefully(Caller& caller, const OpenRequest& request) {
  if (HasAll(request.how.flags, kTemporaryFile) || (request.how.flags & O_CREAT) == 0) {
    return OpenExisting(caller, request);
  }
  // A trailing slash never creates (EISDIR), O_EXCL never opens: nothing to look at first.
  const bool slash = !request.path.empty() && request.path.back() == '/';
  if ((request.how.flags & O_EXCL) != 0 || slash) return CreateNew(caller, request);
  return OpenOrCreate(caller, request);
}

// The kernel's own opinion on flags, mode and resolve: it looks at them before the path.
SyscallResult CheckHow(Caller& caller, const open_how& how) {
  const SyscallResult result = HostOpenAt2(caller, AT_FDCWD, "", how);
  return result.error() == ENOENT ? kSuccess : result;
}

// The path argument of open() and its family, copied.
SyscallResult OpenWithFlags(Caller& caller, int directory, std::uint64_t path,
                            const open_how& how) {
  CopyResult<std::string> copy =
      caller.memory.CopyInString(path, PATH_MAX - 1, Errno{ENAMETOOLONG});
  if (!copy.ok()) return copy.error();
  return OpenForGuest(caller, {.directory = directory, .path = *std::move(copy), .how = how});
}

// Opens the program's own file for writing, as far as the last name tells?
bool MayBeProgram(const Caller& caller, const OpenRequest& request) {
  if (!ForWriting(request.how) || (request.how.flags & O_PATH) != 0) return false;
  const std::string program = caller.process.executable_path();
  return request.path.ends_with(program.substr(program.rfind('/') + 1));
}

}  // namespace

open_how HowFromFlags(std::uint64_t flags, std::uint64_t mode) {
  open_how how{.flags = static_cast<std::uint32_t>(flags) & kKnownFlags, .mode = mode & kKnownMode};
  if ((how.flags & O_PATH) != 0) how.flags &= kPathFlags;
  if ((how.flags & (O_CREAT | kTemporaryFile)) == 0) how.mode = 0;
  return how;
}

SyscallResult OpenForGuest(Caller& caller, const OpenRequest& request) {
  if (request.path.empty()) return Errno{ENOENT};
  const bool free = !HasFileRules(caller) && !MayBeProgram(caller, request);
  if (request.path.front() == '/' && request.how.resolve == 0 && free) {
    const SyscallResult result = OpenOnRootMount(caller, request);
    if (!SaysNothing(result)) return result;
  }
  // The careful way takes flags apart; a combination the kernel refuses has to be refused whole.
  const bool creates = (request.how.flags & (O_CREAT | kTemporaryFile)) != 0;
  if (creates || request.how.resolve != 0) {
    if (SyscallResult checked = CheckHow(caller, request.how); !checked.ok()) return checked;
  }
  const SyscallResult opened = OpenCarefully(caller, request);
  return opened.ok() ? opened : TellFailure(caller, request.directory, request.path, opened);
}

SyscallResult HandleOpen(Caller& caller, const ArgumentValues& arguments) {
  return OpenWithFlags(caller, AT_FDCWD, arguments[0], HowFromFlags(arguments[1], arguments[2]));
}

SyscallResult HandleOpenat(Caller& caller, const ArgumentValues& arguments) {
  return OpenWithFlags(caller, AsInt(arguments[0]), arguments[1],
                       HowFromFlags(arguments[2], arguments[3]));
}

SyscallResult HandleCreat(Caller& caller, const ArgumentValues& arguments) {
  return OpenWithFlags(caller, AT_FDCWD, arguments[0],
                       HowFromFlags(O_CREAT | O_WRONLY | O_TRUNC, arguments[1]));
}

SyscallResult HandleOpenat2(Caller& caller, const ArgumentValues& arguments) {
  open_how how{};
  const SyscallResult copied =
      CopyInExtensible(caller.memory, arguments[2], arguments[3], sizeof(open_how),
                       std::as_writable_bytes(std::span(&how, 1)));
  if (!copied.ok()) return copied;
  if (SyscallResult checked = CheckHow(caller, how); !checked.ok()) return checked;
  return OpenWithFlags(caller, AsInt(arguments[0]), arguments[1], how);
}

// File rules name objects by paths from the root they were made for: under rules the only root that
// may be chosen is that one.
SyscallResult RequireRoot(Caller& caller, int target) {
  if (!HasFileRules(caller)) return kSuccess;
  CopyResult<std::string> name = ObjectName(caller.reserved, target);
  if (!name.ok()) return name.error();
  if (*name == "/") return kSuccess;
  const policy::Denial denial{.action = "call",
                              .object = "chroot " + *name,
                              .origin = 0,
                              .cure = "--allow=all",
                              .error = EPERM};
  return caller.guard->Refuse(caller, denial) ? SyscallResult(Errno{EPERM}) : kSuccess;
}

// Out of the guest's reach. A sibling may have put a file of its own under the number that it had for a moment.
CopyResult<ReservedFd> MakeNoDirectory(Caller& caller) {
  const LowDescriptors::Window window(caller.limits.low_descriptors);
  const ReservedFd low(eventfd(0, EFD_CLOEXEC));
  if (!low.valid()) return LastErrno();
  CopyResult<ReservedFd> made = caller.limits.Reserve(low.get());
  if (!made.ok()) return made;
  struct stat status {};
  if (fstat(made->get(), &status) != 0) return LastErrno();
  return S_ISDIR(status.st_mode) ? Errno{EIO} : std::move(made);
}

// The quick way starts at the root the program was started with. Before that stops being the
// guest's, something that is no directory takes its place: every attempt then ends with ENOTDIR.
// The slot is never left empty: a thread may be about to use its number.
SyscallResult HandleChroot(Caller& caller, const ArgumentValues& arguments) {
  CopyResult<std::string> path =
      caller.memory.CopyInString(arguments[0], PATH_MAX - 1, Errno{ENAMETOOLONG});
  if (!path.ok()) return path.error();
  CopyResult<ReservedFd> target = PinVisible(caller, AT_FDCWD, *path, {});
  if (!target.ok()) return target.error();
  if (SyscallResult allowed = RequireRoot(caller, target->get()); !allowed.ok()) return allowed;
  if (!caller.limits.root_changed) *path = "/proc/" + DescriptorLink(target->get());
  const CopyResult<ReservedFd> nothing = MakeNoDirectory(caller);
  if (!nothing.ok()) return nothing.error();
  CopyResult<ReservedFd> before =
      caller.limits.Reserve(NumberOf(ReservedSlot::kRoot, caller.reserved));
  if (!before.ok()) return before.error();
  const SyscallResult closed = caller.limits.SetSlot((*nothing).get(), ReservedSlot::kRoot);
  if (!closed.ok()) return closed;
  const SyscallResult changed = RuntimeCall(caller, SYS_chroot, Arguments(path->c_str()));
  if (!changed.ok()) {
    (void)caller.limits.SetSlot(before->get(), ReservedSlot::kRoot);
    return changed;
  }
  caller.limits.root_changed = true;
  return changed;
}

void RegisterOpenHandlers(HandlerTable& handlers) {
  handlers.Bind("open", HandleOpen);
  handlers.Bind("openat", HandleOpenat);
  handlers.Bind("openat2", HandleOpenat2);
  handlers.Bind("creat", HandleCreat);
  handlers.Bind("chroot", HandleChroot);
}

}  // namespace dunebox::hostcalls
