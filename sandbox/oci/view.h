// The container's view of files: its root directory with the plan's mounts, devices and hidden places.
//
// Names are looked up in the root as the container will look them up: links are followed, and none
// leads out. Each mount is made apart, restricted, and then put in its place. What is missing in the
// root directory to put a mount at is made there, as the specification wants it. Device nodes that are in the
// root directory, or in what is bound, are the image's or a stranger's: where the configuration denies devices they
// cannot be opened.
//
//   absl::StatusOr<View> view = View::Prepare(*config, plan, "/bundle/rootfs", groups);
//   ... hooks ...
//   absl::Status status = view->Enter(*config);   // the host's files are gone
//   AddFileRules(view->places(), rules);
#ifndef DUNEBOX_SANDBOX_OCI_VIEW_H_
#define DUNEBOX_SANDBOX_OCI_VIEW_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/confinement/mount_tree.h"
#include "runtime/file_descriptor.h"
#include "sandbox/oci/plan.h"

namespace dunebox::oci {

class View {
 public:
  // In a mount namespace of the container's own. `groups`: directories of its control groups.
  static absl::StatusOr<View> Prepare(const Config& config, const Plan& plan,
                                      const std::string& root,
                                      const std::vector<std::string>& groups);
  // Writes the settings of the container's kernel, hides and protects, and changes the root.
  absl::Status Enter(const Config& config);
  // A file over the place of `fd`'s, made if it is not there: a terminal at /dev/console.
  absl::Status Show(int fd, const std::string& path);

  // What the container has at `path` (O_PATH), or kNotFound.
  absl::StatusOr<runtime::FileDescriptor> Find(const std::string& path) const;

  const std::vector<ShownPlace>& places() const { return places_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  enum class PlaceKind : unsigned char { kDirectory, kFile };

  View(confinement::MountTree root, runtime::FileDescriptor null, std::string name, bool denies_devices)
      : root_(std::move(root)), null_(std::move(null)), name_(std::move(name)), denies_devices_(denies_devices) {}

  absl::StatusOr<runtime::FileDescriptor> MakePlace(const std::string& path, PlaceKind kind) const;
  absl::StatusOr<runtime::FileDescriptor> MakeParent(const std::string& path) const;
  // As the container will name it.
  absl::StatusOr<std::string> NameOf(int fd) const;
  absl::Status Add(const MountStep& step, const std::vector<std::string>& groups);
  absl::Status AddBind(const MountStep& step);
  absl::Status AddNew(const MountStep& step);
  absl::Status AddGroups(const MountStep& step, const std::vector<std::string>& groups);
  absl::Status Attach(const confinement::MountTree& tree, const MountStep& step, PlaceKind kind);
  absl::Status MakeDevice(int parent, const std::string& name, const Device& device) const;
  absl::Status AddDevice(const Device& device);
  absl::Status KeepDevice(int parent, const std::string& name);
  absl::Status AddDevices(const Plan& plan);
  absl::Status AddLink(const std::string& path, const char* content);
  absl::Status Hide(const std::string& path);
  absl::Status Protect(const std::string& path);
  absl::Status WriteSetting(const std::string& name, const std::string& value) const;
  absl::Status HideAndProtect(const Config& config);

  confinement::MountTree root_;
  runtime::FileDescriptor null_;  // the host's /dev/null
  std::string name_;              // of the container's root, as the host has it
  bool denies_devices_;           // but those that are made
  std::vector<ShownPlace> places_;
  std::vector<std::string> notes_;
};

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_VIEW_H_
