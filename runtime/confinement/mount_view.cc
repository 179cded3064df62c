#include "runtime/confinement/mount_view.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "runtime/confinement/devices.h"
#include "runtime/confinement/mount_tree.h"
#include "runtime/confinement/new_root.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {
namespace {

using runtime::FileDescriptor;

constexpr const char* kProc = "/proc";
// Below /proc. What a kernel does not have is left out.
constexpr const char* kReadOnlyInProc[] = {"acpi", "bus", "fs", "irq", "sys", "sysrq-trigger"};
constexpr const char* kHiddenInProc[] = {"kcore", "keys", "kmsg", "sched_debug", "timer_list"};

absl::Status In(const std::string& what, const absl::Status& status) {
  if (status.ok()) return status;
  return {status.code(), absl::StrCat(what, ": ", status.message())};
}

FileDescriptor OpenSource(const std::string& path) {
  const open_how how{.flags = O_PATH | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_NO_SYMLINKS};
  return FileDescriptor(
      static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
}

MountFlags FlagsFor(const Mount& mount, bool is_device) {
  MountFlags flags = kNoSetUserId;
  if (!is_device) flags |= kNoDevices;
  if (!mount.writable) flags |= kReadOnly;
  if (!mount.executable) flags |= kNoExecute;
  return flags;
}

struct Bind {
  MountTree tree;
  PlaceKind kind;
};

absl::StatusOr<Bind> MakeBind(const Mount& mount) {
  const FileDescriptor source = OpenSource(mount.source);
  struct stat info;
  if (!source.valid() || fstat(source.get(), &info) != 0) {
    return absl::ErrnoToStatus(errno, "cannot open it");
  }
  absl::StatusOr<MountTree> tree = MountTree::CopyOf(source.get());
  if (!tree.ok()) return tree.status();
  const bool is_device = S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode);
  if (absl::Status status = tree->Restrict(FlagsFor(mount, is_device)); !status.ok()) return status;
  return Bind{*std::move(tree), S_ISDIR(info.st_mode) ? PlaceKind::kDirectory : PlaceKind::kFile};
}

absl::Status AddBind(NewRoot& root, const Mount& mount) {
  absl::StatusOr<Bind> bind = MakeBind(mount);
  return bind.ok() ? root.Attach(bind->tree, mount.target, bind->kind) : bind.status();
}

absl::Status AddTmpfs(NewRoot& root, const Mount& mount) {
  Mount writable = mount;
  writable.writable = true;
  absl::StatusOr<MountTree> tree =
      MountTree::New("tmpfs", MountTree::TmpfsOptions(mount.size), FlagsFor(writable, false));
  if (!tree.ok()) return tree.status();
  return root.Attach(*tree, mount.target, PlaceKind::kDirectory);
}

// What is at `path` of the new root, over itself, with more flags.
absl::Status MakeReadOnly(NewRoot& root, const std::string& path) {
  absl::StatusOr<FileDescriptor> place = root.Find(path);
  if (absl::IsNotFound(place.status())) return absl::OkStatus();
  if (!place.ok()) return place.status();
  absl::StatusOr<MountTree> copy = MountTree::CopyOf(place->get());
  if (!copy.ok()) return copy.status();
  if (absl::Status status = copy->Restrict(kReadOnly); !status.ok()) return status;
  return copy->AttachAt(place->get());
}

// A device node without its device: opening it is EACCES.
absl::Status HideFile(const FileDescriptor& place) {
  const FileDescriptor node(open("/dev/null", O_PATH | O_CLOEXEC));
  if (!node.valid()) return absl::ErrnoToStatus(errno, "cannot open /dev/null");
  absl::StatusOr<MountTree> copy = MountTree::CopyOf(node.get());
  if (!copy.ok()) return copy.status();
  if (absl::Status status = copy->Restrict(kReadOnly | kNoDevices); !status.ok()) return status;
  return copy->AttachAt(place.get());
}

// An empty directory. Not read-only: what else the plan shows below it gets its place there.
absl::Status HideDirectory(NewRoot& root, const std::string& path) {
  constexpr std::uint64_t kOnePage = 4096;
  absl::StatusOr<MountTree> tree = MountTree::New("tmpfs", MountTree::TmpfsOptions(kOnePage),
                                                  kNoSetUserId | kNoDevices | kNoExecute);
  return tree.ok() ? root.Attach(*tree, path, PlaceKind::kDirectory) : tree.status();
}

absl::Status Hide(NewRoot& root, const std::string& path) {
  absl::StatusOr<FileDescriptor> place = root.Find(path);
  if (absl::IsNotFound(place.status())) return absl::OkStatus();
  if (!place.ok()) return place.status();
  struct stat info;
  if (fstat(place->get(), &info) != 0) return absl::ErrnoToStatus(errno, "cannot look at it");
  return S_ISDIR(info.st_mode) ? HideDirectory(root, path) : HideFile(*place);
}

absl::StatusOr<MountTree> ProcTree(ProcSource source) {
  const MountFlags flags = kNoSetUserId | kNoDevices | kNoExecute;
  if (source == ProcSource::kOwnNamespace) return MountTree::New("proc", {}, flags);
  const FileDescriptor host(open(kProc, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!host.valid()) return absl::ErrnoToStatus(errno, "cannot open it");
  absl::StatusOr<MountTree> tree = MountTree::CopyOf(host.get());
  if (!tree.ok()) return tree;
  if (absl::Status status = tree->Restrict(flags); !status.ok()) return status;
  return tree;
}

absl::Status AddProc(NewRoot& root, ProcSource source) {
  absl::StatusOr<MountTree> tree = ProcTree(source);
  if (!tree.ok()) return tree.status();
  absl::Status status = root.Attach(*tree, kProc, PlaceKind::kDirectory);
  for (const char* name : kReadOnlyInProc) {
    if (status.ok()) status = MakeReadOnly(root, absl::StrCat(kProc, "/", name));
  }
  for (const char* name : kHiddenInProc) {
    if (status.ok()) status = Hide(root, absl::StrCat(kProc, "/", name));
  }
  return status;
}

absl::Status Add(NewRoot& root, const Mount& mount, ProcSource proc) {
  switch (mount.kind) {
    case MountKind::kBind:
      return AddBind(root, mount);
    case MountKind::kTmpfs:
      return AddTmpfs(root, mount);
    case MountKind::kProc:
      return AddProc(root, proc);
    case MountKind::kDevices:
      return MakeDevices(root, mount.target, mount.size);
    case MountKind::kSymlink:
      return root.MakeLink(mount.target, mount.source);
    case MountKind::kHidden:
      return Hide(root, mount.target);
  }
  return absl::InternalError("a kind of mount that nobody knows");
}

bool IsProc(const Mount& mount) { return mount.kind == MountKind::kProc; }
bool IsWholeRoot(const Mount& mount) {
  return mount.kind == MountKind::kBind && mount.target == "/";
}

// Within a tree that is shown anyway it could not be opened.
bool IsDevice(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode));
}

absl::StatusOr<NewRoot> MakeRoot(const std::vector<Mount>& mounts) {
  if (mounts.empty() || !IsWholeRoot(mounts.front())) return NewRoot::OnTmpfs();
  absl::StatusOr<Bind> bind = MakeBind(mounts.front());
  if (!bind.ok()) return bind.status();
  return NewRoot::On(std::move(bind->tree));
}

std::string Describe(const Mount& mount) {
  if (mount.source.empty() || mount.source == mount.target) return mount.target;
  return absl::StrCat(mount.source, " at ", mount.target);
}

}  // namespace

bool IsShownAlready(std::span<const Mount> before, const Mount& mount) {
  if (mount.kind != MountKind::kBind || mount.source != mount.target) return false;
  // The last one that the place is in decides what is there.
  for (auto other = before.rbegin(); other != before.rend(); ++other) {
    if (other->kind == MountKind::kSymlink || !IsIn(mount.target, other->target)) continue;
    return other->kind == MountKind::kBind && other->source == other->target &&
           other->writable == mount.writable && other->executable == mount.executable;
  }
  return false;
}

absl::Status BuildMountView(const std::vector<Mount>& mounts, ProcSource proc) {
  // Neither do our mounts reach the host, nor later ones of the host's us.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return absl::ErrnoToStatus(errno, "cannot separate the mounts from the host's");
  }
  absl::StatusOr<NewRoot> root = MakeRoot(mounts);
  if (!root.ok()) return In("the root directory", root.status());
  for (const Mount& mount : mounts) {
    if (&mount == &mounts.front() && IsWholeRoot(mount)) continue;
    if (IsShownAlready({mounts.data(), &mount}, mount) && !IsDevice(mount.source)) continue;
    if (absl::Status status = Add(*root, mount, proc); !status.ok()) {
      return In(absl::StrCat("cannot show ", Describe(mount)), status);
    }
  }
  if (std::none_of(mounts.begin(), mounts.end(), IsProc)) {
    if (absl::Status status = AddProc(*root, proc); !status.ok()) return In("/proc", status);
  }
  return root->MakeCurrent();
}

}  // namespace dunebox::confinement
