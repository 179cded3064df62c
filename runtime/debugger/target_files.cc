#include "runtime/debugger/target_files.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/debugger/packet.h"
#include "runtime/file_descriptor.h"

namespace dunebox::debugger {
namespace {

constexpr std::size_t kMostOpen = 64;
constexpr std::uint64_t kMostRead = kMostPacketBytes / 2 - 32;  // escaped it may be twice as long

// The protocol's numbers are Linux's for what happens here, but for the rest. [gdb, "Errno Values"]
std::string Failure(int error) {
  constexpr int kKnown[] = {EPERM, ENOENT, EINTR, EBADF, EACCES, EFAULT, ENODEV, ENOTDIR,
                            EISDIR, EINVAL, ENFILE, EMFILE};
  constexpr int kUnknown = 9999;
  const bool is_known = std::ranges::find(kKnown, error) != std::end(kKnown);
  return absl::StrCat("F-1,", absl::Hex(is_known ? error : kUnknown));
}

std::optional<std::string> TakePath(std::string_view text) {
  std::optional<std::string> path = FromHex(text);
  if (!path || path->empty() || path->size() >= PATH_MAX || path->find('\0') != std::string::npos) {
    return std::nullopt;
  }
  return path;
}

}  // namespace

std::string PackStatus(const struct stat& status) {
  std::string packed;
  const auto add = [&](std::uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; --i) packed += static_cast<char>(value >> (8 * i));
  };
  for (const std::uint64_t word :
       {std::uint64_t{status.st_dev}, std::uint64_t{status.st_ino}, std::uint64_t{status.st_mode},
        std::uint64_t{status.st_nlink}, std::uint64_t{status.st_uid}, std::uint64_t{status.st_gid},
        std::uint64_t{status.st_rdev}}) {
    add(word, 4);
  }
  add(static_cast<std::uint64_t>(status.st_size), 8);
  add(static_cast<std::uint64_t>(status.st_blksize), 8);
  add(static_cast<std::uint64_t>(status.st_blocks), 8);
  for (const time_t when : {status.st_atime, status.st_mtime, status.st_ctime}) {
    add(static_cast<std::uint64_t>(when), 4);
  }
  return packed;
}

std::optional<std::string> TargetFiles::OwnText(const std::string& path) const {
  std::string_view name = path;
  if (!Take(name, "/proc/")) return std::nullopt;
  if (!Take(name, "self") && !Take(name, std::to_string(getpid()))) return std::nullopt;
  if (Take(name, "/task/")) name.remove_prefix(std::min(name.find('/'), name.size()));
  if (name == "/maps") return owner_.FormatMaps();
  if (name == "/cmdline") return owner_.CommandLine();
  if (name == "/environ") return owner_.Environment();
  if (name == "/auxv") return owner_.AuxiliaryVector();
  return std::nullopt;
}

// 0, or an errno.
int TargetFiles::MayRead(int fd) const {
  const hostcalls::policy::Rules& rules = owner_.session().rules;
  hostcalls::CopyResult<std::string> name = hostcalls::ObjectName(owner_.reserved(), fd);
  if (!name.ok()) return name.error().value;
  // The kernel's view of the process has the runtime's memory in it.
  if (name->starts_with("/proc/") && name->ends_with("/mem")) return EACCES;
  if (rules.allow_all || rules.audit) return 0;
  const auto allowed = hostcalls::RightsOnName(rules, *name);
  return (allowed.rights & hostcalls::policy::kReadFile) != 0 ? 0 : EACCES;
}

std::string TargetFiles::Open(std::string_view arguments) {
  const std::size_t comma = arguments.find(',');
  if (comma == std::string_view::npos) return Failure(EINVAL);
  const std::optional<std::string> path = TakePath(arguments.substr(0, comma));
  arguments.remove_prefix(comma + 1);
  const std::optional<std::uint64_t> flags = TakeHex(arguments);
  if (!path || !flags) return Failure(EINVAL);
  if (*flags != 0) return Failure(EPERM);  // 0: for reading only
  if (open_.size() >= kMostOpen) return Failure(EMFILE);
  File file{.path = *path, .text = OwnText(*path)};
  int error = 0;
  if (!file.text) {
    hostcalls::WithSeparateDescriptors([&] {
      const runtime::FileDescriptor pinned(open(path->c_str(), O_PATH | O_CLOEXEC));
      struct stat status{};
      if (!pinned.valid() || fstat(pinned.get(), &status) != 0) {
        error = errno;
      } else if (!S_ISREG(status.st_mode)) {
        error = S_ISDIR(status.st_mode) ? EISDIR : EACCES;  // a FIFO would keep us waiting
      } else {
        error = MayRead(pinned.get());
      }
    });
  }
  if (error != 0) return Failure(error);
  open_[++last_] = std::move(file);
  return absl::StrCat("F", absl::Hex(last_));
}

std::string TargetFiles::Close(std::string_view arguments) {
  const std::optional<std::uint64_t> number = TakeHex(arguments);
  return number && open_.erase(*number) != 0 ? "F0" : Failure(EBADF);
}

std::string TargetFiles::Read(std::string_view arguments) {
  const std::optional<std::uint64_t> number = TakeHex(arguments);
  const bool first = Take(arguments, ",");
  const std::optional<std::uint64_t> count = TakeHex(arguments);
  const bool second = Take(arguments, ",");
  const std::optional<std::uint64_t> offset = TakeHex(arguments);
  if (!number || !count || !offset || !first || !second || *offset > INT64_MAX) {
    return Failure(EINVAL);
  }
  const auto found = open_.find(*number);
  if (found == open_.end()) return Failure(EBADF);
  const File& file = found->second;
  std::string bytes;
  int error = 0;
  if (file.text) {
    if (*offset < file.text->size()) bytes = file.text->substr(*offset, std::min(*count, kMostRead));
  } else {
    bytes.resize(std::min(*count, kMostRead));
    hostcalls::WithSeparateDescriptors([&] {
      const runtime::FileDescriptor pinned(open(file.path.c_str(), O_PATH | O_CLOEXEC));
      error = pinned.valid() ? MayRead(pinned.get()) : errno;
      if (error != 0) return;
      const runtime::FileDescriptor opened(open(hostcalls::DescriptorPath(pinned.get()).c_str(),
                                                O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
      const ssize_t got = pread(opened.get(), bytes.data(), bytes.size(), static_cast<off_t>(*offset));
      error = got < 0 ? errno : 0;
      bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    });
  }
  if (error != 0) return Failure(error);
  return absl::StrCat("F", absl::Hex(bytes.size()), ";", Escape(bytes));
}

std::string TargetFiles::Status(std::string_view arguments) {
  const std::optional<std::uint64_t> number = TakeHex(arguments);
  const auto found = number ? open_.find(*number) : open_.end();
  if (found == open_.end()) return Failure(EBADF);
  struct stat status{};
  int error = 0;
  if (found->second.text) {
    status.st_mode = S_IFREG | 0444;
    status.st_size = static_cast<off_t>(found->second.text->size());
  } else {
    hostcalls::WithSeparateDescriptors([&] {
      const runtime::FileDescriptor pinned(open(found->second.path.c_str(), O_PATH | O_CLOEXEC));
      error = pinned.valid() ? MayRead(pinned.get()) : errno;
      if (error == 0 && fstat(pinned.get(), &status) != 0) error = errno;
    });
  }
  if (error != 0) return Failure(error);
  const std::string packed = PackStatus(status);
  return absl::StrCat("F", absl::Hex(packed.size()), ";", Escape(packed));
}

std::string TargetFiles::ReadLink(std::string_view arguments) const {
  const std::optional<std::string> path = TakePath(arguments);
  if (!path) return Failure(EINVAL);
  std::string target(PATH_MAX, '\0');
  if (*path == "/proc/self/exe" || *path == absl::StrCat("/proc/", getpid(), "/exe")) {
    target = owner_.executable_path();
  } else {
    int error = 0;
    hostcalls::WithSeparateDescriptors([&] {
      const runtime::FileDescriptor pinned(open(path->c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      error = pinned.valid() ? MayRead(pinned.get()) : errno;
      if (error != 0) return;
      const ssize_t length = readlinkat(pinned.get(), "", target.data(), target.size());
      // Of what is no link the kernel says, by descriptor, that there is none.
      if (length < 0) error = errno == ENOENT ? EINVAL : errno;
      target.resize(static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
    });
    if (error != 0) return Failure(error);
  }
  return absl::StrCat("F", absl::Hex(target.size()), ";", Escape(target));
}

std::string TargetFiles::Answer(std::string_view request) {
  if (Take(request, "open:")) return Open(request);
  if (Take(request, "close:")) return Close(request);
  if (Take(request, "pread:")) return Read(request);
  if (Take(request, "fstat:")) return Status(request);
  if (Take(request, "readlink:")) return ReadLink(request);
  if (Take(request, "setfs:")) return "F0";  // there is one file system, the program's
  if (Take(request, "pwrite:") || Take(request, "unlink:")) return Failure(EPERM);
  return {};
}

}  // namespace dunebox::debugger
