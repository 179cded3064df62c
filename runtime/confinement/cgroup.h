// A control group (v2) of the session's own, for limits that the kernel keeps for the whole tree.
//
// It is made where this user may make one with the controllers that the limits need already handed
// down; nothing of the machine's own groups is changed. Who enters it stays in it, with all its
// children; the monitor and the guardian do not. Whoever of those two ends last removes it; what
// was left by a session of which both were killed is removed by the next session beside it.
//
//   absl::StatusOr<Cgroup> group = Cgroup::Create({.memory = 512 << 20});
//   if (fork() == 0) { absl::Status status = group->Enter(); ... }
//   ...
//   group->Remove();
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_CGROUP_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_CGROUP_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {

struct CgroupLimits {
  std::optional<std::uint64_t> memory;  // bytes of the program's; the runtime's own come on top
  std::optional<std::uint64_t> tasks;   // the program's; room for the runtime's is added
};

// What the runtime needs besides the program: tables, translated code.
inline constexpr std::uint64_t kRuntimeMemory = std::uint64_t{64} << 20;

class Cgroup {
 public:
  // Fails when there is no place for it, with the reason.
  static absl::StatusOr<Cgroup> Create(const CgroupLimits& limits);

  // This process, and from then on its children. It keeps no descriptor of the group.
  absl::Status Enter();
  // Of all that are or were in it.
  std::chrono::milliseconds CpuTime() const;
  // Has the kernel killed one because of the memory limit?
  bool RanOutOfMemory() const;
  // Kills who is still in it. Fine when it is gone already.
  void Remove() const;

 private:
  Cgroup(std::string path, runtime::FileDescriptor directory)
      : path_(std::move(path)), directory_(std::move(directory)) {}
  static absl::StatusOr<Cgroup> CreateIn(const std::string& parent, const CgroupLimits& limits);
  absl::Status Limit(const CgroupLimits& limits) const;
  absl::Status CheckEntering();

  std::string path_;
  runtime::FileDescriptor directory_;
};

// The directories in which a group of this process's can be made, the nearest first. `groups` is
// /proc/self/cgroup, `mounts` /proc/self/mountinfo. Empty when no v2 hierarchy is mounted.
std::vector<std::string> CgroupPlaces(std::string_view groups, std::string_view mounts);

// Removes the groups in there whose makers are dead; one with this process's number is of a former one that had it, since this
// one has made none yet. A group with somebody in it cannot be removed.
void RemoveStaleCgroups(const std::string& parent);

// The number beside `key` in a file of such lines; nothing when it has none.
std::optional<std::uint64_t> ValueIn(std::string_view text, std::string_view key);

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_CGROUP_H_
