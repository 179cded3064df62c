#include "runtime/confinement/mount_tree.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"

namespace dunebox::confinement {
namespace {

static_assert(kReadOnly == MOUNT_ATTR_RDONLY && kNoSetUserId == MOUNT_ATTR_NOSUID &&
              kNoDevices == MOUNT_ATTR_NODEV && kNoExecute == MOUNT_ATTR_NOEXEC);

absl::Status SetFlags(int fd, MountFlags flags, unsigned how) {
  mount_attr attributes{.attr_set = flags, .attr_clr = 0, .propagation = 0, .userns_fd = 0};
  if (mount_setattr(fd, "", AT_EMPTY_PATH | how, &attributes, sizeof(attributes)) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "cannot restrict a mount (mount_setattr)");
}

}  // namespace

MountTree::Options MountTree::TmpfsOptions(std::uint64_t size) {
  constexpr std::uint64_t kBytesPerFile = 1024, kLeastFiles = 1024;
  Options options = {{"mode", "1777"}};
  if (size == 0) return options;
  options.emplace_back("size", absl::StrCat(size));
  options.emplace_back("nr_inodes", absl::StrCat(std::max(size / kBytesPerFile, kLeastFiles)));
  return options;
}

absl::StatusOr<MountTree> MountTree::CopyOf(int fd) { return Copy(fd, AT_RECURSIVE); }

absl::StatusOr<MountTree> MountTree::CopyOfOne(int fd) { return Copy(fd, 0); }

absl::StatusOr<MountTree> MountTree::Copy(int fd, unsigned how) {
  runtime::FileDescriptor tree(
      open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | how));
  if (!tree.valid()) return absl::ErrnoToStatus(errno, "cannot copy a mount (open_tree)");
  return MountTree(std::move(tree), false);
}

absl::StatusOr<MountTree> MountTree::New(const std::string& file_system, const Options& options,
                                         MountFlags flags) {
  const auto error = [&](const char* what) {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat("cannot mount a ", file_system, " (", what, ")"));
  };
  const runtime::FileDescriptor context(fsopen(file_system.c_str(), FSOPEN_CLOEXEC));
  if (!context.valid()) return error("fsopen");
  for (const auto& [key, value] : options) {
    const bool is_flag = value.empty();
    if (fsconfig(context.get(), is_flag ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING, key.c_str(),
                 is_flag ? nullptr : value.c_str(), 0) != 0) {
      return error(key.c_str());
    }
  }
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return error("fsconfig");
  }
  runtime::FileDescriptor mount(
      fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(flags)));
  if (!mount.valid()) return error("fsmount");
  return MountTree(std::move(mount), true);
}

absl::Status MountTree::Restrict(MountFlags flags) const {
  return SetFlags(fd_.get(), flags, AT_RECURSIVE);
}

absl::Status MountTree::RestrictOne(int fd, MountFlags flags) { return SetFlags(fd, flags, 0); }

absl::Status MountTree::AttachAt(int target) const {
  constexpr unsigned kBothAreDescriptors = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
  if (move_mount(fd_.get(), "", target, "", kBothAreDescriptors) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "cannot put a mount in place (move_mount)");
}

}  // namespace dunebox::confinement
