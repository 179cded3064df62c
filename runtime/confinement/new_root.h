// The root directory that the program will see, while it is being put together: mostly a private
// tmpfs in which places for mounts are made.
//
// Names are looked up as the program will look them up: links are followed, and none leads out. A
// place is made only on file systems that are the session's own; where the host's tree lacks the
// place for a mount, that is an error, because making it would leave something behind there.
//
//   absl::StatusOr<NewRoot> root = NewRoot::OnTmpfs();
//   absl::StatusOr<FileDescriptor> place = root->MakePlace("/usr", PlaceKind::kDirectory);
//   ...
//   if (absl::Status status = root->MakeCurrent(); ...   // the old root is gone
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_NEW_ROOT_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_NEW_ROOT_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/confinement/mount_tree.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {

enum class PlaceKind : unsigned char { kDirectory, kFile };

class NewRoot {
 public:
  // Attached over the old root, which absolute names still lead to.
  static absl::StatusOr<NewRoot> OnTmpfs();
  static absl::StatusOr<NewRoot> On(MountTree tree);

  // What `path` leads to, or kNotFound.
  absl::StatusOr<runtime::FileDescriptor> Find(const std::string& path) const;
  // The same, made with the directories before it if it is not there.
  absl::StatusOr<runtime::FileDescriptor> MakePlace(const std::string& path, PlaceKind kind) const;
  // Attaches `tree` at the place, which cannot be the root.
  absl::Status Attach(const MountTree& tree, const std::string& path, PlaceKind kind);
  // Fine when the same link is there already.
  absl::Status MakeLink(const std::string& path, const std::string& content) const;

  // Adds flags to the mount whose root `path` is.
  absl::Status Restrict(const std::string& path, MountFlags flags) const;

  // Makes this the root and the current directory of the process, a tmpfs read-only, and takes the
  // old root away.
  absl::Status MakeCurrent();

 private:
  explicit NewRoot(MountTree tree) : tree_(std::move(tree)) { NoteOwn(tree_); }
  int Open(const std::string& path, std::uint64_t flags) const;
  absl::StatusOr<runtime::FileDescriptor> OpenDirectory(const std::string& path) const;
  absl::Status CheckOwn(int directory, const std::string& path) const;
  void NoteOwn(const MountTree& tree);

  MountTree tree_;
  std::vector<dev_t> own_devices_;  // of the file systems in which places may be made
};

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_NEW_ROOT_H_
