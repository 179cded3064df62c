#include "hostcalls/services/pinned_path.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "hostcalls/services/limits.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr int kMostLinks = 40;  // MAXSYMLINKS [linux]

// One O_PATH open, moved into the reserved range.
CopyResult<ReservedFd> PinStep(Caller& caller, int directory, const std::string& path,
                               PinOptions options) {
  const open_how how{.flags = O_PATH | O_CLOEXEC | options.flags, .resolve = options.resolve};
  const LowDescriptors::Window window(caller.limits.low_descriptors);
  const SyscallResult opened = HostOpenAt2(caller, directory, path, how);
  if (!opened.ok()) return ErrorOf(opened);
  const int low = static_cast<int>(opened.value());
  const bool is_alone = options.is_brief && caller.LoneThread() != 0;
  CopyResult<ReservedFd> pinned = is_alone ? caller.limits.SetAside(low) : caller.limits.Reserve(low);
  close(low);
  return pinned;
}

// A walk component by component, for paths with magic links in them.
class PathWalk {
 public:
  explicit PathWalk(Caller& caller) : caller_(caller) {}

  CopyResult<ReservedFd> Walk(int directory, std::string_view path, std::uint64_t flags);
  // The number of the last step, where that was a magic link to a descriptor of this process.
  int descriptor() const { return descriptor_; }

 private:
  // What `name` in a pinned directory is or leads to.
  CopyResult<ReservedFd> Step(int directory, const std::string& name, std::uint64_t flags);
  CopyResult<ReservedFd> FollowMagicLink(int directory, const ProcLocation& location,
                                         const std::string& name, std::uint64_t flags);
  CopyResult<ReservedFd> PinOwnExecutable(std::uint64_t flags);

  Caller& caller_;
  int links_left_ = kMostLinks;
  int descriptor_ = -1;
};

CopyResult<ReservedFd> PathWalk::Walk(int directory, std::string_view path, std::uint64_t flags) {
  if (path.empty()) return Errno{ENOENT};
  const char* start = path.front() == '/' ? "/" : ".";
  CopyResult<ReservedFd> current =
      PinStep(caller_, directory, start, {.flags = O_DIRECTORY, .resolve = 0});
  while (current.ok()) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    if (path.empty()) break;
    const std::string name(path.substr(0, path.find('/')));
    path.remove_prefix(name.size());
    const bool last = path.find_first_not_of('/') == std::string_view::npos;
    // A slash behind the last name asks for a directory, and for what a link there leads to.
    const std::uint64_t step_flags = last && path.empty() ? flags : std::uint64_t{O_DIRECTORY};
    CopyResult<ReservedFd> next = Step(current->get(), name, step_flags);
    current = std::move(next);
  }
  return current;
}

CopyResult<ReservedFd> PathWalk::Step(int directory, const std::string& name, std::uint64_t flags) {
  descriptor_ = -1;
  CopyResult<ReservedFd> direct =
      PinStep(caller_, directory, name, {.flags = flags, .resolve = RESOLVE_NO_MAGICLINKS});
  if (direct.ok() || direct.error().value != ELOOP) return direct;
  // A magic link, or a symbolic one that leads to one in the end.
  if (links_left_-- == 0) return Errno{ELOOP};
  const CopyResult<ProcLocation> location = Locate(caller_, directory);
  if (!location.ok()) return location.error();
  if (IsMagicLink(*location, name)) return FollowMagicLink(directory, *location, name, flags);
  CopyResult<std::string> target = ReadLinkText(caller_, directory, name);
  if (!target.ok()) return target.error();
  return Walk(directory, *target, flags);
}

CopyResult<ReservedFd> PathWalk::FollowMagicLink(int directory, const ProcLocation& location,
                                                 const std::string& name, std::uint64_t flags) {
  if (location.entry == "map_files") return Errno{EACCES};
  if (location.entry == "fd" &&
      caller_.reserved.Contains(static_cast<std::uint64_t>(ParseProcNumber(name)))) {
    return Errno{ENOENT};
  }
  // The directory is pinned and the name is ours: it can only be this link.
  const bool executable = location.entry.empty() && name == "exe";
  if (location.entry == "fd" && IsOwnTask(location.id)) descriptor_ = ParseProcNumber(name);
  if (!executable) {
    return PinStep(caller_, directory, name, {.flags = flags, .resolve = 0});
  }
  if (IsOwnTask(location.id)) return PinOwnExecutable(flags);
  CopyResult<ReservedFd> file = PinStep(caller_, directory, name, {.flags = flags, .resolve = 0});
  if (!file.ok() || !caller_.limits.IsRuntimeFile(file->get())) return file;
  // Another guest of ours. Its program is behind the same number as this one's.
  CopyResult<ReservedFd> theirs =
      PinStep(caller_, NumberOf(ReservedSlot::kProc, caller_.reserved),
              ExecutableLink(location.id, caller_.reserved), {.flags = flags, .resolve = 0});
  return theirs.ok() ? std::move(theirs) : Errno{EACCES};
}

CopyResult<ReservedFd> PathWalk::PinOwnExecutable(std::uint64_t flags) {
  if ((flags & O_DIRECTORY) != 0) return Errno{ENOTDIR};
  CopyResult<ReservedFd> file =
      caller_.limits.Reserve(NumberOf(ReservedSlot::kExecutable, caller_.reserved));
  // Without the file (a caller that has not loaded one) there is still its name.
  if (file.ok() || file.error().value != EBADF) return file;
  return Walk(AT_FDCWD, caller_.process.executable_path(), flags);
}

}  // namespace

SyscallResult HostOpenAt2(Caller& caller, int directory, const std::string& path,
                          const open_how& how) {
  return RuntimeCall(caller, SYS_openat2, Arguments(directory, path.c_str(), &how, sizeof(how)));
}

CopyResult<std::string> ReadLinkText(Caller& caller, int directory, const std::string& name) {
  std::string text(PATH_MAX, '\0');
  const SyscallResult length = RuntimeCall(
      caller, SYS_readlinkat, Arguments(directory, name.c_str(), text.data(), text.size()));
  if (!length.ok()) return ErrorOf(length);
  text.resize(static_cast<std::size_t>(length.value()));
  return text;
}

CopyResult<ReservedFd> PinObject(Caller& caller, int directory, const std::string& path,
                                 PinOptions options) {
  constexpr std::uint64_t kScoped = RESOLVE_BENEATH | RESOLVE_IN_ROOT;
  // Scoped lookups refuse magic links by themselves, with an errno of their own.
  PinOptions kernel = options;
  if ((options.resolve & kScoped) == 0) kernel.resolve |= RESOLVE_NO_MAGICLINKS;
  CopyResult<ReservedFd> pinned = PinStep(caller, directory, path, kernel);
  if (pinned.ok() || pinned.error().value != ELOOP) return pinned;
  if (options.resolve == RESOLVE_NO_XDEV) return Errno{EXDEV};  // what a magic link would give
  if (options.resolve != 0) return Errno{ELOOP};
  PathWalk walk(caller);
  CopyResult<ReservedFd> walked = walk.Walk(directory, path, options.flags);
  if (options.descriptor != nullptr) *options.descriptor = walk.descriptor();
  return walked;
}

CopyResult<ReservedFd> PinDescriptor(Caller& caller, int fd) {
  return PinStep(caller, NumberOf(ReservedSlot::kProc, caller.reserved), DescriptorLink(fd), {});
}

CopyResult<ReservedFd> PinVisible(Caller& caller, int directory, const std::string& path,
                                  PinOptions options) {
  CopyResult<ReservedFd> pinned = PinObject(caller, directory, path, options);
  if (!pinned.ok()) return pinned;
  const CopyResult<ProcLocation> location = Locate(caller, pinned->get());
  if (!location.ok()) return location.error();
  if (IsOfReserved(*location, caller.reserved)) return Errno{ENOENT};
  return pinned;
}

CopyResult<PinnedParent> PinParent(Caller& caller, int directory, const std::string& path,
                                   std::uint64_t resolve) {
  if (path.empty()) return Errno{ENOENT};
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  CopyResult<ReservedFd> pinned =
      PinObject(caller, directory, parent, {.flags = O_DIRECTORY, .resolve = resolve});
  if (!pinned.ok()) return pinned.error();
  return PinnedParent{.directory = *std::move(pinned),
                      .name = slash == std::string::npos ? path : path.substr(slash + 1)};
}

}  // namespace dunebox::hostcalls
