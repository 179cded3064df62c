#include "runtime/confinement/new_root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "absl/strings/str_cat.h"

namespace dunebox::confinement {
namespace {

using runtime::FileDescriptor;

constexpr mode_t kDirectoryMode = 0755;
constexpr mode_t kFileMode = 0444;

absl::Status PlaceError(int error, const std::string& path) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot make a place for ", path));
}

struct Split {
  std::string directory;
  std::string name;
};

// "/a/b/" is b in /a.
Split SplitPath(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::size_t slash = path.rfind('/');
  return {.directory = slash == 0 ? "/" : path.substr(0, slash), .name = path.substr(slash + 1)};
}

}  // namespace

absl::StatusOr<NewRoot> NewRoot::OnTmpfs() {
  absl::StatusOr<MountTree> tree =
      MountTree::New("tmpfs", {{"mode", "0755"}}, kNoSetUserId | kNoDevices);
  if (!tree.ok()) return tree.status();
  return On(*std::move(tree));
}

absl::StatusOr<NewRoot> NewRoot::On(MountTree tree) {
  const FileDescriptor old_root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!old_root.valid()) return absl::ErrnoToStatus(errno, "cannot open /");
  if (absl::Status status = tree.AttachAt(old_root.get()); !status.ok()) return status;
  return NewRoot(std::move(tree));
}

void NewRoot::NoteOwn(const MountTree& tree) {
  struct stat info;
  if (tree.is_new() && fstat(tree.fd(), &info) == 0) own_devices_.push_back(info.st_dev);
}

int NewRoot::Open(const std::string& path, std::uint64_t flags) const {
  const open_how how{.flags = O_PATH | O_CLOEXEC | flags, .mode = 0, .resolve = RESOLVE_IN_ROOT};
  return static_cast<int>(syscall(SYS_openat2, tree_.fd(), path.c_str(), &how, sizeof(how)));
}

absl::Status NewRoot::CheckOwn(int directory, const std::string& path) const {
  struct stat info;
  if (fstat(directory, &info) != 0) return PlaceError(errno, path);
  if (std::find(own_devices_.begin(), own_devices_.end(), info.st_dev) != own_devices_.end()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("there is no ", path, " to put a mount at, and it would have to be made in a ",
                   "directory of the host's: make it there first"));
}

absl::StatusOr<FileDescriptor> NewRoot::Find(const std::string& path) const {
  FileDescriptor found(Open(path, 0));
  if (!found.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  return found;
}

absl::StatusOr<FileDescriptor> NewRoot::OpenDirectory(const std::string& path) const {
  FileDescriptor found(Open(path, O_DIRECTORY));
  if (found.valid()) return found;
  if (errno != ENOENT) return PlaceError(errno, path);
  return MakePlace(path, PlaceKind::kDirectory);
}

absl::StatusOr<FileDescriptor> NewRoot::MakePlace(const std::string& path, PlaceKind kind) const {
  const bool is_directory = kind == PlaceKind::kDirectory;
  const std::uint64_t flags = is_directory ? O_DIRECTORY : 0;
  FileDescriptor found(Open(path, flags));
  if (found.valid()) return found;
  const auto [directory, name] = SplitPath(path);
  // A link that leads nowhere, ".." and the like: nothing that could be made.
  if (errno != ENOENT || name.empty() || path[0] != '/') return PlaceError(errno, path);
  absl::StatusOr<FileDescriptor> parent = OpenDirectory(directory);
  if (!parent.ok()) return parent.status();
  if (absl::Status status = CheckOwn(parent->get(), path); !status.ok()) return status;
  if (is_directory) {
    if (mkdirat(parent->get(), name.c_str(), kDirectoryMode) != 0) return PlaceError(errno, path);
  } else {
    FileDescriptor file(openat(parent->get(), name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, kFileMode));
    if (!file.valid()) return PlaceError(errno, path);
    return file;
  }
  FileDescriptor made(Open(path, flags));
  if (!made.valid()) return PlaceError(errno, path);
  return made;
}

absl::Status NewRoot::Attach(const MountTree& tree, const std::string& path, PlaceKind kind) {
  // Over the root it would be below the one that is put there last, and seen by nobody.
  if (SplitPath(path).name.empty()) return absl::InvalidArgumentError("the root has to come first");
  absl::StatusOr<FileDescriptor> place = MakePlace(path, kind);
  if (!place.ok()) return place.status();
  if (absl::Status status = tree.AttachAt(place->get()); !status.ok()) return status;
  NoteOwn(tree);
  return absl::OkStatus();
}

absl::Status NewRoot::MakeLink(const std::string& path, const std::string& content) const {
  const auto [directory, name] = SplitPath(path);
  absl::StatusOr<FileDescriptor> parent = OpenDirectory(directory);
  if (!parent.ok()) return parent.status();
  char present[PATH_MAX];
  const ssize_t size = readlinkat(parent->get(), name.c_str(), present, sizeof(present));
  if (size >= 0 && std::string(present, static_cast<std::size_t>(size)) == content) {
    return absl::OkStatus();
  }
  if (absl::Status status = CheckOwn(parent->get(), path); !status.ok()) return status;
  if (symlinkat(content.c_str(), parent->get(), name.c_str()) == 0) return absl::OkStatus();
  return PlaceError(errno, path);
}

absl::Status NewRoot::Restrict(const std::string& path, MountFlags flags) const {
  absl::StatusOr<FileDescriptor> mount = Find(path);
  return mount.ok() ? MountTree::RestrictOne(mount->get(), flags) : mount.status();
}

absl::Status NewRoot::MakeCurrent() {
  if (tree_.is_new()) {
    const MountFlags flags = kReadOnly | kNoExecute;
    if (absl::Status status = MountTree::RestrictOne(tree_.fd(), flags); !status.ok())
      return status;
  }
  // The old root is put over the new one, and what is on top of "." is taken away. [pivot_root(2)]
  if (fchdir(tree_.fd()) != 0 || syscall(SYS_pivot_root, ".", ".") != 0) {
    return absl::ErrnoToStatus(
        errno, errno == EINVAL ? "cannot change the root, as in a chroot or on an initial ramdisk"
                               : "cannot change the root (pivot_root)");
  }
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
    return absl::ErrnoToStatus(errno, "cannot take the old root away");
  }
  return absl::OkStatus();
}

}  // namespace dunebox::confinement
