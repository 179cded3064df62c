// A container's control groups: made where the configuration says, with its limits.
//
// Both layouts of the kernel: one tree (v2), or a tree for each controller (v1). Refuses to go on without
// a limit that the configuration asks for; a container without limits needs no group, and has none where
// none can be made. Refuses the names of systemd's driver, which asks another process for groups.
//
//   absl::StatusOr<std::vector<CgroupFile>> files = CgroupFiles(resources, CgroupLayout::kUnified);
//   absl::StatusOr<Cgroups> groups = Cgroups::Create(HostCgroups(), "/pod/web", resources);
//   absl::Status status = groups->Enter(pid);
#ifndef DUNEBOX_SANDBOX_OCI_CGROUPS_H_
#define DUNEBOX_SANDBOX_OCI_CGROUPS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sandbox/oci/config.h"

namespace dunebox::oci {

enum class CgroupLayout : std::uint8_t { kUnified, kPerController };

// What is to be written for a limit.
struct CgroupFile {
  std::string controller;  // "memory"
  std::string name;        // "memory.max"
  std::string text;
  bool operator==(const CgroupFile&) const = default;
};

// In the order in which the kernel takes them.
absl::StatusOr<std::vector<CgroupFile>> CgroupFiles(const Resources& resources,
                                                    CgroupLayout layout);
// A path of a group below a controller's tree: "/pod/web", or why it cannot be one.
absl::StatusOr<std::string> CgroupPath(const std::string& path, const std::string& id);

struct HostCgroups {
  CgroupLayout layout = CgroupLayout::kUnified;
  std::string top = "/sys/fs/cgroup";
  std::vector<std::string> controllers;  // with a tree of their own

  static HostCgroups OfThisMachine();
};

class Cgroups {
 public:
  Cgroups() = default;  // none
  explicit Cgroups(std::vector<std::string> directories) : directories_(std::move(directories)) {}

  static absl::StatusOr<Cgroups> Create(const HostCgroups& host, const std::string& path,
                                        const Resources& resources);
  absl::Status Enter(pid_t pid) const;
  // Everything in them and in groups below; for what cannot be reached by a process id.
  void Signal(int signal) const;
  // Kills everything in them and below, also what forks as fast as it can, and removes them. Fine when they are gone.
  absl::Status End() const;
  const std::vector<std::string>& directories() const { return directories_; }

 private:
  void Kill() const;
  absl::Status Remove() const;

  std::vector<std::string> directories_;
};

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_CGROUPS_H_
