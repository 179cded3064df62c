#include "sandbox/oci/cgroups.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "runtime/file_descriptor.h"
#include "runtime/text_file.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

constexpr std::uint64_t kUsualPeriod = 100'000;  // microseconds
constexpr mode_t kMode = 0755;
// Those that engines look into, and those with limits.
constexpr const char* kControllers[] = {"memory", "pids", "cpu", "cpuacct", "cpuset", "freezer"};

// "max" and -1 are how the two layouts say that there is no limit.
std::string Amount(std::int64_t amount, CgroupLayout layout) {
  if (amount >= 0) return fmt::format("{}", amount);
  return layout == CgroupLayout::kUnified ? "max" : "-1";
}

// [OCI config-linux.md] Shares from 2 to 262144 are weights from 1 to 10000.
std::uint64_t WeightOf(std::uint64_t shares) {
  constexpr std::uint64_t kLeast = 2, kMost = 262'144, kMostWeight = 10'000;
  shares = std::clamp(shares, kLeast, kMost);
  return 1 + ((shares - kLeast) * (kMostWeight - 1)) / (kMost - kLeast);
}

absl::Status AddMemoryUnified(const Resources& resources, std::vector<CgroupFile>& files) {
  if (resources.memory) {
    files.push_back({"memory", "memory.max", Amount(*resources.memory, CgroupLayout::kUnified)});
  }
  if (resources.memory_reservation) {
    files.push_back(
        {"memory", "memory.low", Amount(*resources.memory_reservation, CgroupLayout::kUnified)});
  }
  if (!resources.memory_and_swap) return absl::OkStatus();
  std::int64_t swap = *resources.memory_and_swap;
  if (swap > 0) {
    if (resources.memory.value_or(-1) < 0 || swap < *resources.memory) {
      return absl::InvalidArgumentError("linux.resources.memory.swap: is less than the limit");
    }
    swap -= *resources.memory;
  }
  files.push_back({"memory", "memory.swap.max", Amount(swap, CgroupLayout::kUnified)});
  return absl::OkStatus();
}

void AddMemoryPerController(const Resources& resources, std::vector<CgroupFile>& files) {
  const auto add = [&](const char* name, const std::optional<std::int64_t>& value) {
    if (value) files.push_back({"memory", name, Amount(*value, CgroupLayout::kPerController)});
  };
  add("memory.limit_in_bytes", resources.memory);
  add("memory.soft_limit_in_bytes", resources.memory_reservation);
  add("memory.memsw.limit_in_bytes", resources.memory_and_swap);
}

void AddCpu(const Resources& resources, CgroupLayout layout, std::vector<CgroupFile>& files) {
  const bool is_unified = layout == CgroupLayout::kUnified;
  if (resources.cpu_shares.value_or(0) != 0) {
    files.push_back(
        is_unified
            ? CgroupFile{"cpu", "cpu.weight", fmt::format("{}", WeightOf(*resources.cpu_shares))}
            : CgroupFile{"cpu", "cpu.shares", fmt::format("{}", *resources.cpu_shares)});
  }
  if (is_unified && (resources.cpu_quota || resources.cpu_period)) {
    const std::int64_t quota = resources.cpu_quota.value_or(-1);
    files.push_back({"cpu", "cpu.max",
                     fmt::format("{} {}", quota > 0 ? fmt::format("{}", quota) : "max",
                                 resources.cpu_period.value_or(kUsualPeriod))});
  } else {
    if (resources.cpu_period) {
      files.push_back({"cpu", "cpu.cfs_period_us", fmt::format("{}", *resources.cpu_period)});
    }
    if (resources.cpu_quota) {
      files.push_back({"cpu", "cpu.cfs_quota_us", fmt::format("{}", *resources.cpu_quota)});
    }
  }
  if (!resources.cpus.empty()) files.push_back({"cpuset", "cpuset.cpus", resources.cpus});
  if (!resources.memory_nodes.empty()) {
    files.push_back({"cpuset", "cpuset.mems", resources.memory_nodes});
  }
}

absl::Status Write(const std::string& path, const std::string& text) {
  const runtime::FileDescriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.valid() && write(file.get(), text.data(), text.size()) >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, fmt::format("cannot write {}", path));
}

// A group and those that its processes have made in it, each behind the one that it is in.
std::vector<std::string> TreeOf(const std::string& group) {
  std::vector<std::string> tree = {group};
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(group, error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    if (entry->is_directory(error)) tree.push_back(entry->path().string());
  }
  return tree;
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// A group has a controller that its parent hands down.
void HandDown(const std::string& parent) {
  const std::string offered = runtime::ReadTextFile(parent + "/cgroup.controllers").value_or("");
  for (const absl::string_view name :
       absl::StrSplit(offered, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
    Write(parent + "/cgroup.subtree_control", fmt::format("+{}", std::string(name))).IgnoreError();
  }
}

// What a group of this controller has to have before anybody can be in it.
void CopyFromParent(const std::string& parent, const std::string& group) {
  for (const char* const file : {"/cpuset.cpus", "/cpuset.mems"}) {
    const std::string text = runtime::ReadTextFile(parent + file).value_or("");
    if (runtime::ReadTextFile(group + file).value_or("x") == "\n") {
      Write(group + file, text).IgnoreError();
    }
  }
}

// `top` and each directory of `path` below it.
absl::StatusOr<std::string> MakeGroup(const std::string& top, const std::string& path,
                                      CgroupLayout layout) {
  std::string group = top;
  for (const absl::string_view name : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (layout == CgroupLayout::kUnified) HandDown(group);
    const std::string parent = group;
    group = fmt::format("{}/{}", parent, std::string(name));
    if (mkdir(group.c_str(), kMode) != 0 && errno != EEXIST) {
      return absl::ErrnoToStatus(errno, fmt::format("cannot make the control group {}", group));
    }
    if (layout == CgroupLayout::kPerController) CopyFromParent(parent, group);
  }
  return group;
}

}  // namespace

absl::StatusOr<std::vector<CgroupFile>> CgroupFiles(const Resources& resources,
                                                    CgroupLayout layout) {
  std::vector<CgroupFile> files;
  if (layout == CgroupLayout::kUnified) {
    if (absl::Status status = AddMemoryUnified(resources, files); !status.ok()) return status;
  } else {
    AddMemoryPerController(resources, files);
  }
  if (resources.pids) {
    const bool is_limit = *resources.pids > 0;
    files.push_back({"pids", "pids.max", is_limit ? fmt::format("{}", *resources.pids) : "max"});
  }
  AddCpu(resources, layout, files);
  if (layout == CgroupLayout::kPerController && !resources.unified.empty()) {
    return absl::FailedPreconditionError(
        "linux.resources.unified: this machine has no unified control groups");
  }
  for (const auto& [name, text] : resources.unified) {
    files.push_back({name.substr(0, name.find('.')), name, text});
  }
  return files;
}

absl::StatusOr<std::string> CgroupPath(const std::string& path, const std::string& id) {
  if (path.empty()) return fmt::format("/dunebox/{}", id);
  if (path.find(':') != std::string::npos) {
    return absl::InvalidArgumentError(fmt::format(
        "linux.cgroupsPath: {} is for systemd's control groups; use the engine's cgroupfs manager",
        policy::Quoted(path)));
  }
  bool has_name = false;
  for (const absl::string_view name : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    has_name = true;
    if (name == ".." || name == ".") {
      return absl::InvalidArgumentError("linux.cgroupsPath: has dots for a name");
    }
  }
  if (!has_name) return absl::InvalidArgumentError("linux.cgroupsPath: is everybody's group");
  return path[0] == '/' ? path : fmt::format("/{}", path);
}

HostCgroups HostCgroups::OfThisMachine() {
  HostCgroups host;
  if (access((host.top + "/cgroup.controllers").c_str(), F_OK) == 0) return host;
  host.layout = CgroupLayout::kPerController;
  for (const char* const name : kControllers) {
    if (IsDirectory(host.top + "/" + name)) host.controllers.emplace_back(name);
  }
  return host;
}

absl::StatusOr<Cgroups> Cgroups::Create(const HostCgroups& host, const std::string& path,
                                        const Resources& resources) {
  absl::StatusOr<std::vector<CgroupFile>> files = CgroupFiles(resources, host.layout);
  if (!files.ok()) return files.status();
  std::vector<std::string> tops;
  if (host.layout == CgroupLayout::kUnified) tops.push_back(host.top);
  for (const std::string& controller : host.controllers)
    tops.push_back(host.top + "/" + controller);
  Cgroups groups;
  absl::Status status;
  for (const std::string& top : tops) {
    absl::StatusOr<std::string> group = MakeGroup(top, path, host.layout);
    if (!group.ok()) {
      status = group.status();
      break;
    }
    // What is in it will be ended with the container.
    if (!runtime::ReadTextFile(*group + "/cgroup.procs").value_or("").empty()) {
      status = absl::AlreadyExistsError(fmt::format("{} has processes in it", *group));
      break;
    }
    groups.directories_.push_back(*std::move(group));
  }
  for (const CgroupFile& file : *files) {
    if (!status.ok()) break;
    const bool is_unified = host.layout == CgroupLayout::kUnified;
    const std::string top = is_unified ? host.top : host.top + "/" + file.controller;
    status = Write(top + path + "/" + file.name, file.text);
    // A kernel that does not count swap has none to limit.
    const bool is_swap =
        file.name.find("swap") != std::string::npos || file.name.find("memsw") != std::string::npos;
    if (is_swap && absl::IsNotFound(status)) status = absl::OkStatus();
  }
  if (status.ok()) return groups;
  groups.Remove().IgnoreError();  // those that are empty
  return status;
}

absl::Status Cgroups::Enter(pid_t pid) const {
  for (const std::string& directory : directories_) {
    if (absl::Status status = Write(directory + "/cgroup.procs", fmt::format("{}", pid));
        !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

void Cgroups::Signal(int signal) const {
  for (const std::string& directory : directories_) {
    bool has_any = false;
    for (const std::string& group : TreeOf(directory)) {
      const std::string text = runtime::ReadTextFile(group + "/cgroup.procs").value_or("");
      for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
        pid_t pid = 0;
        if (absl::SimpleAtoi(line, &pid) && pid > 1 && pid != getpid()) kill(pid, signal);
        has_any = true;
      }
    }
    if (has_any) return;  // the other trees have the same processes
  }
}

// What forks while the list of processes is read would not be on it: nothing runs meanwhile. Of the two files a kernel
// has the one of its layout, the second since Linux 5.14.
void Cgroups::Kill() const {
  const auto tell = [&](const char* file, const char* word) {
    for (const std::string& directory : directories_) Write(directory + file, word).IgnoreError();
  };
  tell("/freezer.state", "FROZEN");
  Signal(SIGKILL);
  tell("/freezer.state", "THAWED");
  tell("/cgroup.kill", "1");
}

absl::Status Cgroups::End() const {
  constexpr int kTries = 200;
  constexpr useconds_t kPause = 10'000;
  for (int i = 0; i < kTries; ++i) {
    Kill();
    absl::Status removed = Remove();
    if (removed.ok() || i + 1 == kTries) return removed;
    usleep(kPause);  // what was killed is on its way out
  }
  return absl::OkStatus();
}

absl::Status Cgroups::Remove() const {
  absl::Status status;
  for (const std::string& directory : directories_) {
    const std::vector<std::string> tree = TreeOf(directory);
    for (auto group = tree.rbegin(); group != tree.rend(); ++group) {
      if (rmdir(group->c_str()) == 0 || errno == ENOENT) continue;
      status = absl::ErrnoToStatus(errno, fmt::format("cannot remove the control group {}", *group));
    }
  }
  return status;
}

}  // namespace dunebox::oci
