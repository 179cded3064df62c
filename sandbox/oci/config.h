// An OCI runtime configuration (config.json) as values. [OCI runtime-spec 1.1, config.md, config-linux.md]
//
// Says what the text says and nothing about this machine. Refuses what is no configuration, and every
// field that we do not carry out and whose absence would leave the container with more rights or
// fewer limits than the text promises; other such fields are notes. docs/oci.md has both, field by
// field.
//
//   absl::StatusOr<Config> config = ParseConfig(text, "config.json");
//   // "config.json: process.args: is missing"
#ifndef DUNEBOX_SANDBOX_OCI_CONFIG_H_
#define DUNEBOX_SANDBOX_OCI_CONFIG_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dunebox::oci {

// One bit a capability, in the kernel's numbers.
using CapabilityBits = std::uint64_t;

struct CapabilitySets {
  CapabilityBits bounding = 0, effective = 0, permitted = 0, inheritable = 0, ambient = 0;
};

struct Rlimit {
  int resource = 0;  // RLIMIT_*
  std::uint64_t soft = 0, hard = 0;
};

struct User {
  std::uint32_t uid = 0, gid = 0;
  std::optional<std::uint32_t> umask;
  std::vector<std::uint32_t> additional_gids;
};

struct ConsoleSize {
  std::uint16_t height = 0, width = 0;
};

struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;  // with a terminal
  User user;
  std::vector<std::string> args;  // one at least
  std::vector<std::string> env;
  std::string cwd;  // absolute
  std::optional<CapabilitySets> capabilities;
  std::vector<Rlimit> rlimits;  // each resource once
  bool no_new_privileges = false;
  std::optional<int> oom_score_adjust;
};

struct Root {
  std::string path;  // relative to the bundle, or absolute
  bool readonly = false;
};

struct Mount {
  std::string destination;  // absolute
  std::string type, source;
  std::vector<std::string> options;
};

struct Hook {
  std::string path;  // absolute
  std::vector<std::string> args, env;
  std::optional<int> timeout;  // seconds, more than 0
};

// In the order in which they are run.
enum class HookPoint : std::uint8_t {
  kPrestart,
  kCreateRuntime,
  kCreateContainer,
  kStartContainer,
  kPoststart,
  kPoststop,
};
inline constexpr std::size_t kHookPointCount = 6;
// "prestart"
std::string_view NameOf(HookPoint point);

struct Hooks {
  std::array<std::vector<Hook>, kHookPointCount> all;
  const std::vector<Hook>& At(HookPoint point) const {
    return all[static_cast<std::size_t>(point)];
  }
};

enum class NamespaceKind : std::uint8_t { kUser, kPid, kNetwork, kMount, kIpc, kUts, kCgroup };

struct Namespace {
  NamespaceKind kind = NamespaceKind::kMount;
  std::string path;  // absolute; empty: a new one
};

struct IdMapping {
  std::uint32_t container_id = 0, host_id = 0, size = 0;
};

struct Device {
  char type = 'c';   // 'c', 'b' or 'p'
  std::string path;  // absolute
  std::uint32_t major = 0, minor = 0;
  std::uint32_t mode = 0666;
  std::uint32_t uid = 0, gid = 0;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';  // 'a', 'c' or 'b'
  std::optional<std::int64_t> major, minor;  // nothing: all
  std::string access;                        // of "rwm"; empty: all
};

struct Resources {
  std::vector<DeviceRule> devices;
  // Bytes; -1: no limit.
  std::optional<std::int64_t> memory, memory_reservation, memory_and_swap;
  std::optional<std::int64_t> pids;  // 0 or less: no limit
  std::optional<std::uint64_t> cpu_shares, cpu_period;
  std::optional<std::int64_t> cpu_quota;
  std::string cpus, memory_nodes;
  std::map<std::string, std::string> unified;  // files of cgroup v2

  bool HasLimits() const;
};

struct Linux {
  std::vector<Namespace> namespaces;  // each kind once
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::vector<Device> devices;
  std::string cgroups_path;
  Resources resources;
  bool has_seccomp = false;
  std::vector<std::string> masked_paths, readonly_paths;  // absolute
  std::map<std::string, std::string> sysctl;

  const Namespace* Find(NamespaceKind kind) const;
};

struct Config {
  std::string version;
  Process process;
  Root root;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  Linux linux_part;
  std::vector<std::string> notes;  // what is without effect, and why
};

// `file` is what messages begin with.
absl::StatusOr<Config> ParseConfig(std::string_view text, std::string_view file);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_CONFIG_H_
