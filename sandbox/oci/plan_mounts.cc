#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "sandbox/oci/plan_parts.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

using confinement::kNoDevices;
using confinement::kNoExecute;
using confinement::kNoSetUserId;
using confinement::kReadOnly;
using confinement::MountFlags;

// File systems that are made anew for the container.
constexpr std::string_view kNewTypes[] = {"proc", "sysfs", "tmpfs", "devpts", "mqueue"};
constexpr std::string_view kCgroupTypes[] = {"cgroup", "cgroup2"};

struct FlagRow {
  std::string_view word;
  MountFlags flag;
  bool is_set;
};
constexpr FlagRow kFlags[] = {
#define MOUNT_FLAG(word, flag, value) {word, flag, value},
#include "sandbox/oci/mount_options.inc"
};
constexpr std::string_view kWithoutEffect[] = {
#define MOUNT_KEPT_APART(word) word,
#define MOUNT_WITHOUT_EFFECT(word) word,
#include "sandbox/oci/mount_options.inc"
};
constexpr std::pair<std::string_view, std::string_view> kRefused[] = {
#define MOUNT_REFUSED(word, reason) {word, reason},
#include "sandbox/oci/mount_options.inc"
};

template <typename Range>
bool Contains(const Range& range, std::string_view word) {
  return std::ranges::find(range, word) != std::end(range);
}

bool IsBelow(std::string_view path, std::string_view tree) {
  return path.starts_with(tree) && path.size() > tree.size() && path[tree.size()] == '/';
}

absl::Status Error(const MountStep& mount, std::string_view reason) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", mount.origin, reason));
}

// A word that mount(8) does not know is the file system's own: "size=64k".
absl::Status AddOption(MountStep& mount, const std::string& word) {
  const auto* const flag = std::ranges::find(kFlags, word, &FlagRow::word);
  if (flag != std::end(kFlags)) {
    mount.flags = flag->is_set ? mount.flags | flag->flag : mount.flags & ~flag->flag;
    return absl::OkStatus();
  }
  if (word == "bind" || word == "rbind" || Contains(kWithoutEffect, word)) return absl::OkStatus();
  const auto* const refused =
      std::ranges::find(kRefused, word, [](const auto& row) { return row.first; });
  if (refused != std::end(kRefused)) {
    return Error(mount, fmt::format("option {}: {}", policy::Quoted(word), refused->second));
  }
  if (mount.kind == MountKind::kCgroup) return absl::OkStatus();  // none of them means more rights
  if (mount.kind == MountKind::kBind || word.empty()) {
    return Error(mount, fmt::format("option {} is unknown", policy::Quoted(word)));
  }
  const std::size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  const bool is_flag = equals == std::string::npos;
  if (!is_flag && equals + 1 == word.size()) {
    return Error(mount, fmt::format("option {} has no value", policy::Quoted(word)));
  }
  mount.options.emplace_back(name, is_flag ? "" : word.substr(equals + 1));
  return absl::OkStatus();
}

absl::StatusOr<MountStep> StepFor(const Mount& mount, const std::string& bundle,
                                  std::string origin) {
  MountStep step{.source = mount.source,
                 .destination = mount.destination,
                 .type = mount.type,
                 .recursive = Contains(mount.options, "rbind"),
                 .origin = std::move(origin)};
  if (step.recursive || Contains(mount.options, "bind") || mount.type == "bind") {
    step.kind = MountKind::kBind;
    if (step.source.empty()) return Error(step, "a bind without a source");
    if (step.source[0] != '/') step.source = bundle + "/" + step.source;
    step.has_devices = mount.destination == "/dev" || IsBelow(mount.destination, "/dev") ||
                       Contains(mount.options, "dev");
  } else if (Contains(kCgroupTypes, mount.type)) {
    step.kind = MountKind::kCgroup;
  } else if (!Contains(kNewTypes, mount.type)) {
    return Error(step, fmt::format("file system {} is not supported", policy::Quoted(mount.type)));
  }
  if ((mount.type == "proc" && step.kind == MountKind::kNew) != (mount.destination == "/proc")) {
    return Error(step, "a file system of type proc belongs to /proc, and nothing else does");
  }
  for (const std::string& word : mount.options) {
    if (absl::Status status = AddOption(step, word); !status.ok()) return status;
  }
  return step;
}

// Where a setting lives, and the namespace that keeps it from the host.
struct SysctlRow {
  std::string_view name;
  bool is_beginning;
  NamespaceKind kind;
};
constexpr SysctlRow kSysctls[] = {
    {"kernel.msgmax", false, NamespaceKind::kIpc},
    {"kernel.msgmnb", false, NamespaceKind::kIpc},
    {"kernel.msgmni", false, NamespaceKind::kIpc},
    {"kernel.sem", false, NamespaceKind::kIpc},
    {"kernel.shmall", false, NamespaceKind::kIpc},
    {"kernel.shmmax", false, NamespaceKind::kIpc},
    {"kernel.shmmni", false, NamespaceKind::kIpc},
    {"kernel.shm_rmid_forced", false, NamespaceKind::kIpc},
    {"kernel.domainname", false, NamespaceKind::kUts},
    {"fs.mqueue.", true, NamespaceKind::kIpc},
    {"net.", true, NamespaceKind::kNetwork},
};

}  // namespace

absl::Status PlanMounts(const Config& config, const ConfigSource& source, Plan& plan) {
  for (std::size_t i = 0; i < config.mounts.size(); ++i) {
    absl::StatusOr<MountStep> step =
        StepFor(config.mounts[i], source.bundle, fmt::format("{}: mounts[{}]", source.file, i));
    if (!step.ok()) return step.status();
    // What the runtime knows of itself has to be the kernel's word.
    if (IsBelow(step->destination, "/proc")) {
      return Error(*step, "nothing may be mounted below /proc");
    }
    plan.mounts.push_back(*std::move(step));
  }
  const auto is_proc = [](const MountStep& mount) { return mount.destination == "/proc"; };
  if (std::ranges::none_of(plan.mounts, is_proc)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: mounts: a file system of type proc is needed at /proc", source.file));
  }
  return absl::OkStatus();
}

absl::Status CheckSysctls(const Config& config, std::string_view file) {
  for (const auto& [name, value] : config.linux_part.sysctl) {
    const auto* const row = std::ranges::find_if(kSysctls, [&name = name](const SysctlRow& known) {
      return known.is_beginning ? name.starts_with(known.name) : name == known.name;
    });
    // "/" is another way to write ".", and ".." would lead elsewhere.
    const bool is_name =
        name.find('/') == std::string::npos && name.find("..") == std::string::npos;
    if (row == std::end(kSysctls) || !is_name) {
      return absl::InvalidArgumentError(
          fmt::format("{}: linux.sysctl: {} is not a setting of a container's own", file,
                      policy::Quoted(name)));
    }
    if (config.linux_part.Find(row->kind) == nullptr) {
      return absl::InvalidArgumentError(
          fmt::format("{}: linux.sysctl: {} would change the host's, since the container has no "
                      "namespace for it",
                      file, policy::Quoted(name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace dunebox::oci
