// A mount that is attached nowhere yet: made, given its flags, then put in place.
//
// Because the flags are set before anybody can reach it, nothing is ever visible with more rights
// than it shall have; and because both ends are descriptors, no name is looked up twice. Flags are
// only added: what the original mount forbids stays forbidden. Needs Linux 5.12 (mount_setattr) and
// CAP_SYS_ADMIN over the mount namespace.
//
//   absl::StatusOr<MountTree> tree = MountTree::CopyOf(source.get());
//   if (absl::Status status = tree->Restrict(kNoDevices | kReadOnly); ...
//   if (absl::Status status = tree->AttachAt(target.get()); ...
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_MOUNT_TREE_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_MOUNT_TREE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {

// Of a mount, in the kernel's numbers (MOUNT_ATTR_*).
using MountFlags = std::uint64_t;
inline constexpr MountFlags kReadOnly = 0x1, kNoSetUserId = 0x2, kNoDevices = 0x4, kNoExecute = 0x8;

class MountTree {
 public:
  // A key and its value, as the file system knows them: {"mode", "0755"}.
  using Options = std::vector<std::pair<std::string, std::string>>;

  // Of a tmpfs that everybody may write to, of so many bytes; 0: what the kernel thinks right. The
  // number of files is limited, too: empty ones cost about a KiB of the kernel's memory each.
  static Options TmpfsOptions(std::uint64_t size);

  // What the descriptor (O_PATH will do) leads to, with everything mounted below it.
  static absl::StatusOr<MountTree> CopyOf(int fd);
  // The same without what is mounted below it.
  static absl::StatusOr<MountTree> CopyOfOne(int fd);
  static absl::StatusOr<MountTree> New(const std::string& file_system, const Options& options,
                                       MountFlags flags);

  // Of this mount and of all below it.
  absl::Status Restrict(MountFlags flags) const;
  // Of the mount alone whose root the descriptor is.
  static absl::Status RestrictOne(int fd, MountFlags flags);
  // Over whatever the descriptor leads to.
  absl::Status AttachAt(int target) const;

  // Its root, before and after it is attached.
  int fd() const { return fd_.get(); }
  // Is it a file system of its own and not a copy of the host's?
  bool is_new() const { return is_new_; }

 private:
  static absl::StatusOr<MountTree> Copy(int fd, unsigned how);
  MountTree(runtime::FileDescriptor fd, bool is_new) : fd_(std::move(fd)), is_new_(is_new) {}
  runtime::FileDescriptor fd_;
  bool is_new_;
};

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_MOUNT_TREE_H_
