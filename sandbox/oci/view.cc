#include "sandbox/oci/view.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

namespace dunebox::oci {
namespace {

using confinement::kNoDevices;
using confinement::kNoExecute;
using confinement::kNoSetUserId;
using confinement::kReadOnly;
using confinement::MountTree;
using runtime::FileDescriptor;

constexpr mode_t kDirectoryMode = 0755, kFileMode = 0644;

struct Link {
  const char* path;
  const char* content;
};
constexpr Link kLinks[] = {{"/dev/fd", "/proc/self/fd"},
                           {"/dev/stdin", "/proc/self/fd/0"},
                           {"/dev/stdout", "/proc/self/fd/1"},
                           {"/dev/stderr", "/proc/self/fd/2"}};

absl::Status Failed(std::string_view what) {
  return absl::ErrnoToStatus(errno, absl::string_view(what.data(), what.size()));
}

absl::Status In(std::string_view what, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), fmt::format("{}: {}", what, std::string(status.message())));
}

struct Split {
  std::string directory, name;
};
Split SplitPath(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::size_t slash = path.rfind('/');
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

std::string LinkOf(int fd) {
  char name[PATH_MAX];
  const ssize_t size = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), name, sizeof(name));
  return size < 0 ? "" : std::string(name, static_cast<std::size_t>(size));
}

// Which mount it is on.
std::uint64_t MountOf(int fd) {
  struct statx info {};
  return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &info) == 0 ? info.stx_mnt_id : 0;
}

mode_t TypeOf(char type) {
  if (type == 'b') return S_IFBLK;
  return type == 'p' ? S_IFIFO : S_IFCHR;
}

}  // namespace

absl::StatusOr<FileDescriptor> View::Find(const std::string& path) const {
  const open_how how{.flags = O_PATH | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_IN_ROOT};
  FileDescriptor found(
      static_cast<int>(syscall(SYS_openat2, root_.fd(), path.c_str(), &how, sizeof(how))));
  if (!found.valid()) return Failed("cannot open " + path);
  return found;
}

absl::StatusOr<FileDescriptor> View::MakeParent(const std::string& path) const {
  return MakePlace(SplitPath(path).directory, PlaceKind::kDirectory);
}

absl::StatusOr<FileDescriptor> View::MakePlace(const std::string& path, PlaceKind kind) const {
  absl::StatusOr<FileDescriptor> found = Find(path);
  if (found.ok() || !absl::IsNotFound(found.status())) return found;
  const std::string name = SplitPath(path).name;
  // A link that leads nowhere cannot be made to lead somewhere.
  if (name.empty() || name == "..") return found.status();
  absl::StatusOr<FileDescriptor> parent = MakeParent(path);
  if (!parent.ok()) return parent.status();
  if (kind == PlaceKind::kDirectory) {
    if (mkdirat(parent->get(), name.c_str(), kDirectoryMode) != 0)
      return Failed("cannot make " + path);
  } else if (mknodat(parent->get(), name.c_str(), S_IFREG | kFileMode, 0) != 0) {
    return Failed("cannot make " + path);
  }
  return Find(path);
}

absl::StatusOr<std::string> View::NameOf(int fd) const {
  const std::string link = LinkOf(fd);
  if (link == name_) return "/";
  if (link.starts_with(name_ + "/")) return link.substr(name_.size());
  return absl::InternalError(fmt::format("{} is not in the container's root", link));
}

absl::Status View::Attach(const MountTree& tree, const MountStep& step, PlaceKind kind) {
  absl::StatusOr<FileDescriptor> place = MakePlace(step.destination, kind);
  if (!place.ok()) return place.status();
  absl::StatusOr<std::string> name = NameOf(place->get());
  if (!name.ok()) return name.status();
  if (*name == "/") return absl::InvalidArgumentError("nothing can be mounted over the root");
  // The runtime lives on /proc; links and dots of the configuration's may lead there as well.
  const bool is_proc = step.destination == "/proc";
  if (is_proc != (*name == "/proc") || name->starts_with("/proc/")) {
    return absl::InvalidArgumentError(fmt::format("leads to {}", *name));
  }
  if (absl::Status status = tree.AttachAt(place->get()); !status.ok()) return status;
  places_.push_back({*std::move(name), RightsOf(step.flags), step.origin});
  return absl::OkStatus();
}

absl::Status View::AddBind(const MountStep& step) {
  const FileDescriptor source(open(step.source.c_str(), O_PATH | O_CLOEXEC));
  struct stat info;
  if (!source.valid() || fstat(source.get(), &info) != 0)
    return Failed("cannot open " + step.source);
  absl::StatusOr<MountTree> tree =
      step.recursive ? MountTree::CopyOf(source.get()) : MountTree::CopyOfOne(source.get());
  if (!tree.ok()) return tree.status();
  const bool has_strangers = denies_devices_ && S_ISDIR(info.st_mode) && !step.has_devices;
  const confinement::MountFlags flags = step.flags | (has_strangers ? kNoDevices : 0);
  if (absl::Status status = tree->Restrict(flags); !status.ok()) return status;
  return Attach(*tree, step, S_ISDIR(info.st_mode) ? PlaceKind::kDirectory : PlaceKind::kFile);
}

absl::Status View::AddNew(const MountStep& step) {
  absl::StatusOr<MountTree> tree = MountTree::New(step.type, step.options, step.flags);
  return tree.ok() ? Attach(*tree, step, PlaceKind::kDirectory) : tree.status();
}

// With a tree for each controller: a directory of directories.
absl::Status View::AddGroups(const MountStep& step, const std::vector<std::string>& groups) {
  if (groups.size() == 1) {
    MountStep bind = step;
    bind.source = groups.front();
    return AddBind(bind);
  }
  MountStep top = step;
  top.flags &= ~kReadOnly;
  top.type = "tmpfs";
  top.options = {{"mode", "0755"}};
  if (absl::Status status = AddNew(top); !status.ok()) return status;
  for (const std::string& group : groups) {
    constexpr std::string_view kTop = "/sys/fs/cgroup/";
    MountStep bind = step;
    bind.source = group;
    const std::string controller = group.substr(kTop.size());
    bind.destination = step.destination + "/" + controller.substr(0, controller.find('/'));
    if (absl::Status status = AddBind(bind); !status.ok()) return status;
  }
  if (groups.empty()) notes_.push_back(step.origin + ": there is no control group to show");
  absl::StatusOr<FileDescriptor> place = Find(step.destination);
  if (!place.ok()) return place.status();
  return MountTree::RestrictOne(place->get(), step.flags);
}

absl::Status View::Add(const MountStep& step, const std::vector<std::string>& groups) {
  switch (step.kind) {
    case MountKind::kBind:
      return AddBind(step);
    case MountKind::kNew:
      return AddNew(step);
    case MountKind::kCgroup:
      return AddGroups(step, groups);
  }
  return absl::InternalError("a kind of mount that nobody knows");
}

// Unless it is there. kPermissionDenied: this process makes no devices.
absl::Status View::MakeDevice(int parent, const std::string& name, const Device& device) const {
  const mode_t type = TypeOf(device.type);
  const dev_t number = makedev(device.major, device.minor);
  const bool is_made = mknodat(parent, name.c_str(), type | device.mode, number) == 0;
  if (!is_made && errno != EEXIST) return Failed("cannot make it");
  // By what is there now, whatever else comes to have the name: somebody else may use this directory, too.
  const FileDescriptor node(openat(parent, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info;
  if (!node.valid() || fstat(node.get(), &info) != 0) return Failed("cannot look at it");
  if ((info.st_mode & S_IFMT) != type || (type != S_IFIFO && info.st_rdev != number)) {
    return absl::AlreadyExistsError("something else is there");
  }
  if (!is_made) return absl::OkStatus();
  const std::string itself = fmt::format("/proc/self/fd/{}", node.get());
  if (fchownat(node.get(), "", device.uid, device.gid, AT_EMPTY_PATH) == 0 &&
      chmod(itself.c_str(), device.mode) == 0) {
    return absl::OkStatus();
  }
  return absl::InternalError(Failed("cannot change its owner or mode").message());
}

// A mount of its own, where the root's will have no devices.
absl::Status View::KeepDevice(int parent, const std::string& name) {
  if (!denies_devices_ || MountOf(parent) != MountOf(root_.fd())) return absl::OkStatus();
  const FileDescriptor node(openat(parent, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!node.valid()) return Failed("cannot open it");
  absl::StatusOr<MountTree> tree = MountTree::CopyOfOne(node.get());
  return tree.ok() ? tree->AttachAt(node.get()) : tree.status();
}

absl::Status View::AddDevice(const Device& device) {
  absl::StatusOr<FileDescriptor> parent = MakeParent(device.path);
  if (!parent.ok()) return parent.status();
  const std::string name = SplitPath(device.path).name;
  absl::Status made = MakeDevice(parent->get(), name, device);
  if (made.ok()) return KeepDevice(parent->get(), name);
  if (!absl::IsPermissionDenied(made)) return made;
  // In a user namespace nobody makes devices: the host's own, if it is the same one.
  struct stat info;
  if (stat(device.path.c_str(), &info) != 0 || info.st_rdev != makedev(device.major, device.minor)) {
    return absl::Status(made.code(), "cannot make it, and the host has no such device there");
  }
  return AddBind({.source = device.path,
                  .destination = device.path,
                  .flags = kNoSetUserId | kNoExecute,
                  .origin = "config.json: linux.devices"});
}

absl::Status View::AddLink(const std::string& path, const char* content) {
  absl::StatusOr<FileDescriptor> parent = MakeParent(path);
  if (!parent.ok()) return parent.status();
  const std::string name = SplitPath(path).name;
  if (symlinkat(content, parent->get(), name.c_str()) == 0 || errno == EEXIST)
    return absl::OkStatus();
  return Failed("cannot make it");
}

absl::Status View::AddDevices(const Plan& plan) {
  if (!plan.makes_devices) return absl::OkStatus();
  for (const Device& device : plan.devices) {
    if (absl::Status status = AddDevice(device); !status.ok()) {
      return In("device " + device.path, status);
    }
  }
  for (const Link& link : kLinks) {
    if (absl::Status status = AddLink(link.path, link.content); !status.ok()) {
      return In(link.path, status);
    }
  }
  // Of the container's own terminals, if it has any.
  return Find("/dev/pts/ptmx").ok() ? In("/dev/ptmx", AddLink("/dev/ptmx", "pts/ptmx"))
                                    : absl::OkStatus();
}

absl::StatusOr<View> View::Prepare(const Config& config, const Plan& plan, const std::string& root,
                                   const std::vector<std::string>& groups) {
  // Neither do our mounts reach the host, nor later ones of the host's us.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return Failed("cannot separate the mounts from the host's");
  }
  const FileDescriptor place(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place.valid()) return Failed("root.path: cannot open " + root);
  const std::string name = LinkOf(place.get());
  absl::StatusOr<MountTree> tree = MountTree::CopyOf(place.get());
  if (!tree.ok()) return tree.status();
  if (absl::Status status = tree->AttachAt(place.get()); !status.ok()) return status;
  FileDescriptor null(open("/dev/null", O_PATH | O_CLOEXEC));
  if (!null.valid()) return Failed("cannot open /dev/null");
  View view(*std::move(tree), std::move(null), name, plan.denies_devices);
  view.places_.push_back(
      {"/", RightsOf(config.root.readonly ? kReadOnly : 0), "config.json: root"});
  for (const MountStep& step : plan.mounts) {
    if (absl::Status status = view.Add(step, groups); !status.ok()) {
      return In(fmt::format("{} ({})", step.origin, step.destination), status);
    }
  }
  if (absl::Status status = view.AddDevices(plan); !status.ok()) return status;
  // To start in, as engines expect.
  absl::StatusOr<FileDescriptor> directory =
      view.MakePlace(config.process.cwd, PlaceKind::kDirectory);
  if (!directory.ok()) return In("process.cwd", directory.status());
  return view;
}

absl::Status View::Show(int fd, const std::string& path) {
  absl::StatusOr<FileDescriptor> place = MakePlace(path, PlaceKind::kFile);
  if (!place.ok()) return place.status();
  absl::StatusOr<MountTree> tree = MountTree::CopyOfOne(fd);
  return tree.ok() ? tree->AttachAt(place->get()) : tree.status();
}

// A device node without its device, which cannot be opened; or an empty directory.
absl::Status View::Hide(const std::string& path) {
  absl::StatusOr<FileDescriptor> place = Find(path);
  if (absl::IsNotFound(place.status())) return absl::OkStatus();
  if (!place.ok()) return place.status();
  struct stat info;
  if (fstat(place->get(), &info) != 0) return Failed("cannot look at it");
  absl::StatusOr<std::string> name = NameOf(place->get());
  if (!name.ok()) return name.status();
  constexpr confinement::MountFlags kNothing = kReadOnly | kNoSetUserId | kNoDevices | kNoExecute;
  const bool is_directory = S_ISDIR(info.st_mode);
  absl::StatusOr<MountTree> tree = is_directory
                                       ? MountTree::New("tmpfs", {{"mode", "0755"}}, kNothing)
                                       : MountTree::CopyOfOne(null_.get());
  if (!tree.ok()) return tree.status();
  if (absl::Status status = tree->Restrict(kNothing); !status.ok()) return status;
  hostcalls::policy::FileRights rights = hostcalls::policy::kNoRights;
  if (is_directory) rights = hostcalls::policy::kReadFile;
  places_.push_back({*std::move(name), rights, "config.json: linux.maskedPaths"});
  return tree->AttachAt(place->get());
}

absl::Status View::Protect(const std::string& path) {
  absl::StatusOr<FileDescriptor> place = Find(path);
  if (absl::IsNotFound(place.status())) return absl::OkStatus();
  if (!place.ok()) return place.status();
  absl::StatusOr<std::string> name = NameOf(place->get());
  absl::StatusOr<MountTree> tree = MountTree::CopyOf(place->get());
  if (!name.ok()) return name.status();
  if (!tree.ok()) return tree.status();
  if (absl::Status status = tree->Restrict(kReadOnly); !status.ok()) return status;
  places_.push_back(
      {*std::move(name), hostcalls::policy::kReadOnly, "config.json: linux.readonlyPaths"});
  return tree->AttachAt(place->get());
}

// Through the container's own /proc, so that the kernel and nobody else answers.
absl::Status View::WriteSetting(const std::string& name, const std::string& value) const {
  std::string path = name;
  std::ranges::replace(path, '.', '/');
  absl::StatusOr<FileDescriptor> place = Find("/proc/sys/" + path);
  if (!place.ok()) return place.status();
  struct statfs info;
  if (fstatfs(place->get(), &info) != 0 || info.f_type != PROC_SUPER_MAGIC) {
    return absl::InternalError(name + " is not the kernel's");
  }
  const FileDescriptor file(
      open(fmt::format("/proc/self/fd/{}", place->get()).c_str(), O_WRONLY | O_CLOEXEC));
  if (file.valid() && write(file.get(), value.data(), value.size()) >= 0) return absl::OkStatus();
  return Failed("cannot set " + name);
}

absl::Status View::HideAndProtect(const Config& config) {
  for (const std::string& path : config.linux_part.readonly_paths) {
    if (absl::Status status = Protect(path); !status.ok()) {
      return In("linux.readonlyPaths: " + path, status);
    }
  }
  for (const std::string& path : config.linux_part.masked_paths) {
    if (absl::Status status = Hide(path); !status.ok()) {
      return In("linux.maskedPaths: " + path, status);
    }
  }
  confinement::MountFlags root_flags = config.root.readonly ? kReadOnly : 0;
  if (denies_devices_) root_flags |= kNoDevices;
  return root_flags == 0 ? absl::OkStatus() : In("root", MountTree::RestrictOne(root_.fd(), root_flags));
}

absl::Status View::Enter(const Config& config) {
  for (const auto& [name, value] : config.linux_part.sysctl) {
    if (absl::Status status = WriteSetting(name, value); !status.ok()) {
      return In("linux.sysctl", status);
    }
  }
  if (absl::Status status = HideAndProtect(config); !status.ok()) return status;
  // The old root is put over the new one, and what is on top of "." is taken away. [pivot_root(2)]
  if (fchdir(root_.fd()) != 0 || syscall(SYS_pivot_root, ".", ".") != 0) {
    return Failed("cannot change the root (pivot_root)");
  }
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) return Failed("cannot leave the old root");
  return absl::OkStatus();
}

}  // namespace dunebox::oci
