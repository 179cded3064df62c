// What a configuration comes to: the container's own namespaces, mounts and capabilities (the outer wall)
// and the session in it, which checks each call of the program and is confined once more (the inner one).
//
// Pure: nothing here looks at the machine. Rules about files are made later, by FileRules, from names as
// the container's mounts resolve them. Refuses a mount that we would not know how to restrict, and a
// container without /proc, which the runtime lives on.
//
//   absl::StatusOr<Plan> plan = MakePlan(*config, {.text = text, .file = "config.json", .bundle = "/b"});
#ifndef DUNEBOX_SANDBOX_OCI_PLAN_H_
#define DUNEBOX_SANDBOX_OCI_PLAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/policy/rules.h"
#include "runtime/confinement/mount_tree.h"
#include "runtime/session.h"
#include "sandbox/oci/config.h"

namespace dunebox::oci {

// The annotation that names an engine: auto, kvm or jit.
inline constexpr char kEngineAnnotation[] = "dunebox.engine";

enum class MountKind : std::uint8_t {
  kBind,    // `source` of the host's
  kNew,     // a file system of its own, of `type`
  kCgroup,  // the container's control group, as far as there is one to show
};

struct MountStep {
  MountKind kind = MountKind::kNew;
  std::string source;       // of a bind: absolute
  std::string destination;  // as the container names it
  std::string type;
  bool recursive = false;  // of a bind
  bool has_devices = false;  // of a bind: device nodes are what it is for
  confinement::MountFlags flags = 0;
  confinement::MountTree::Options options;  // of a new file system
  std::string origin;                       // "config.json: mounts[3]"
};

struct JoinedNamespace {
  int flag = 0;  // CLONE_NEW*
  std::string path;
};

struct Plan {
  int new_namespaces = 0;               // CLONE_NEW*
  std::vector<JoinedNamespace> joined;  // in this order
  std::vector<MountStep> mounts;        // in this order
  bool makes_devices = false;           // /dev is not somebody else's
  bool denies_devices = false;          // but for those that are made, and mounts that are there for them
  std::vector<Device> devices;          // the usual ones and the configuration's
  CapabilityBits kept_capabilities = 0;
  runtime::SessionOptions session;  // but for rules about files
  std::vector<std::string> notes;
};

struct ConfigSource {
  std::string_view text;  // of the whole file
  std::string_view file;  // what messages begin with
  std::string bundle;     // absolute
};

absl::StatusOr<Plan> MakePlan(const Config& config, const ConfigSource& source);

// What the container shows at `path`, where a rule about files begins.
struct ShownPlace {
  std::string path;  // as the kernel names it in the container
  hostcalls::policy::FileRights rights = hostcalls::policy::kNoRights;
  std::string origin;
};

hostcalls::policy::FileRights RightsOf(confinement::MountFlags flags);
// Of several places with one path the last counts.
void AddFileRules(const std::vector<ShownPlace>& places, hostcalls::policy::Rules& rules);

// Those that the program has: of another user than root only what is ambient survives.
CapabilityBits KeptCapabilities(const Process& process);

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_PLAN_H_
