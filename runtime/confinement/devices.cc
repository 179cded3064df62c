#include "runtime/confinement/devices.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace dunebox::confinement {
namespace {

using runtime::FileDescriptor;

constexpr const char* kNodes[] = {"null", "zero", "full", "random", "urandom", "tty"};

struct Link {
  const char* name;
  const char* content;
};
constexpr Link kLinks[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

// The host's node, since only the initial user namespace may make one.
absl::Status AddNode(NewRoot& root, const std::string& target, const char* name) {
  const std::string source = absl::StrCat("/dev/", name);
  const FileDescriptor node(open(source.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!node.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", source));
  absl::StatusOr<MountTree> tree = MountTree::CopyOf(node.get());
  if (!tree.ok()) return tree.status();
  // Read-only is the node, with its mode and times, which are the host's; not the device.
  const MountFlags flags = kReadOnly | kNoSetUserId | kNoExecute;
  if (absl::Status status = tree->Restrict(flags); !status.ok()) return status;
  return root.Attach(*tree, absl::StrCat(target, "/", name), PlaceKind::kFile);
}

absl::Status AddNew(NewRoot& root, const std::string& target, const char* file_system,
                    const MountTree::Options& options, MountFlags flags) {
  absl::StatusOr<MountTree> tree = MountTree::New(file_system, options, flags);
  if (!tree.ok()) return tree.status();
  return root.Attach(*tree, target, PlaceKind::kDirectory);
}

}  // namespace

absl::Status MakeDevices(NewRoot& root, const std::string& target, std::uint64_t shared_memory) {
  constexpr MountFlags kNothing = kNoSetUserId | kNoDevices | kNoExecute;
  absl::Status status = AddNew(root, target, "tmpfs", {{"mode", "0755"}}, kNothing);
  for (const char* name : kNodes) {
    if (status.ok()) status = AddNode(root, target, name);
  }
  for (const Link& link : kLinks) {
    if (status.ok()) status = root.MakeLink(absl::StrCat(target, "/", link.name), link.content);
  }
  if (status.ok()) {
    status = AddNew(root, target + "/pts", "devpts", {{"mode", "0620"}, {"ptmxmode", "0666"}},
                    kNoSetUserId | kNoExecute);
  }
  if (status.ok()) {
    status =
        AddNew(root, target + "/shm", "tmpfs", MountTree::TmpfsOptions(shared_memory), kNothing);
  }
  return status.ok() ? root.Restrict(target, kReadOnly) : status;
}

}  // namespace dunebox::confinement
