#include "sandbox/oci/plan.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "sandbox/oci/plan_parts.h"
#include "sandbox/policy/oci_seccomp.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

using hostcalls::policy::FileRights;
using hostcalls::policy::Rules;

constexpr CapabilityBits BitOf(int capability) { return CapabilityBits{1} << capability; }

constexpr std::pair<std::string_view, int> kNamespaceFlags[] = {
#define OCI_NAMESPACE(name, kind, flag) {name, flag},
#include "sandbox/oci/names.inc"
};

constexpr std::array<std::string_view, 41> kCapabilityNames = {
#define OCI_CAPABILITY(name) #name,
#include "sandbox/oci/names.inc"
};

// [OCI config-linux.md "Default Devices"] Numbers of the kernel's.
struct UsualDevice {
  const char* path;
  std::uint32_t major, minor;
};
constexpr UsualDevice kUsualDevices[] = {
    {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
    {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

void PlanNamespaces(const Config& config, Plan& plan) {
  // The table's order is that of entering.
  for (std::size_t i = 0; i < std::size(kNamespaceFlags); ++i) {
    const Namespace* const entry = config.linux_part.Find(static_cast<NamespaceKind>(i));
    if (entry == nullptr) continue;
    const int flag = kNamespaceFlags[i].second;
    if (entry->path.empty()) {
      plan.new_namespaces |= flag;
    } else {
      plan.joined.push_back({flag, entry->path});
    }
  }
}

// May the container use any device?
bool AllowsAllDevices(const Resources& resources) {
  bool all = true;
  for (const DeviceRule& rule : resources.devices) {
    if (rule.type == 'a' && (rule.access.empty() || rule.access.size() == 3)) all = rule.allow;
  }
  return all;
}

void PlanDevices(const Config& config, Plan& plan) {
  plan.denies_devices = !AllowsAllDevices(config.linux_part.resources);
  plan.makes_devices = std::ranges::none_of(plan.mounts, [](const MountStep& mount) {
    return mount.kind == MountKind::kBind && mount.destination == "/dev";
  });
  if (!plan.makes_devices) return;
  for (const UsualDevice& usual : kUsualDevices) {
    plan.devices.push_back({.path = usual.path, .major = usual.major, .minor = usual.minor});
  }
  for (const Device& device : config.linux_part.devices) {
    std::erase_if(plan.devices, [&](const Device& other) { return other.path == device.path; });
    plan.devices.push_back(device);
  }
}

std::vector<std::string> NamesOf(CapabilityBits bits) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kCapabilityNames.size(); ++i) {
    if ((bits & BitOf(static_cast<int>(i))) != 0) names.emplace_back(kCapabilityNames[i]);
  }
  return names;
}

void PlanCapabilities(const Config& config, std::string_view file, Plan& plan) {
  CapabilityBits kept = KeptCapabilities(config.process);
  // Only the devices that we make are there to be opened, if nobody can make others.
  if ((kept & BitOf(CAP_MKNOD)) != 0 && plan.denies_devices) {
    kept &= ~BitOf(CAP_MKNOD);
    plan.notes.push_back(fmt::format(
        "{}: process.capabilities: CAP_MKNOD is not given, since resources.devices denies devices",
        file));
  }
  plan.kept_capabilities = kept;
  plan.session.plan.kept_capabilities = kept;
}

absl::Status PlanCalls(const Config& config, const ConfigSource& source, Plan& plan) {
  if (!config.linux_part.has_seccomp) return absl::OkStatus();
  const policy::OciContext context{.capabilities = NamesOf(plan.kept_capabilities)};
  absl::StatusOr<policy::CallRules> calls =
      policy::ImportOciSeccomp(source.text, source.file, context);
  if (!calls.ok()) return calls.status();
  Rules& rules = plan.session.rules;
  const std::size_t first = rules.origins.size();
  if (first + calls->origins.size() > std::numeric_limits<hostcalls::policy::Origin>::max()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: linux.seccomp: too many entries", source.file));
  }
  rules.origins.insert(rules.origins.end(), calls->origins.begin(), calls->origins.end());
  rules.default_call_action = calls->default_action;
  rules.default_call_error = calls->default_error;
  rules.calls = std::move(calls->rules);
  for (auto& rule : rules.calls) {
    rule.origin = static_cast<hostcalls::policy::Origin>(rule.origin + first);
  }
  plan.notes.insert(plan.notes.end(), calls->notes.begin(), calls->notes.end());
  return absl::OkStatus();
}

absl::Status PlanEngine(const Config& config, std::string_view file, Plan& plan) {
  constexpr std::pair<std::string_view, runtime::EngineChoice> kEngines[] = {
      {"auto", runtime::EngineChoice::kAuto},
      {"kvm", runtime::EngineChoice::kKvm},
      {"jit", runtime::EngineChoice::kJit}};
  const auto annotation = config.annotations.find(kEngineAnnotation);
  if (annotation == config.annotations.end()) return absl::OkStatus();
  for (const auto& [name, engine] : kEngines) {
    if (annotation->second != name) continue;
    plan.session.engine = engine;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("{}: annotations.{}: {} is not one of auto, kvm, jit", file, kEngineAnnotation,
                  policy::Quoted(annotation->second)));
}

// Namespaces decide what of the network there is, and which processes; within them nothing more is
// forbidden than the profile says.
void PlanSession(const Config& config, Plan& plan) {
  runtime::SessionOptions& session = plan.session;
  session.program = config.process.args.front();
  session.arguments = config.process.args;
  session.rules.allow_all = false;
  session.rules.origins = {"default"};
  session.rules.network.reach = hostcalls::policy::Reach::kHost;
  session.rules.network.unix_sockets = true;
  session.plan.confine = true;
  session.plan.is_in_place = true;
  session.plan.own_network = false;
  session.plan.own_processes = false;
  session.plan.any_connect_port = true;
  session.plan.any_bind_port = true;
}

}  // namespace

CapabilityBits KeptCapabilities(const Process& process) {
  if (!process.capabilities) return 0;
  const CapabilitySets& sets = *process.capabilities;
  const CapabilityBits permitted = sets.permitted & sets.bounding;
  // [linux] capabilities(7), "Transformation of capabilities during execve()"
  if (process.user.uid == 0) return permitted;
  return permitted & sets.ambient & sets.inheritable;
}

FileRights RightsOf(confinement::MountFlags flags) {
  FileRights rights = hostcalls::policy::kAllRights;
  if ((flags & confinement::kReadOnly) != 0) rights &= hostcalls::policy::kReadOnly;
  if ((flags & confinement::kNoExecute) != 0) rights &= ~hostcalls::policy::kExecuteFile;
  return rights;
}

void AddFileRules(const std::vector<ShownPlace>& places, Rules& rules) {
  for (const ShownPlace& place : places) {
    std::erase_if(rules.paths, [&](const auto& rule) { return rule.path == place.path; });
    const auto found = std::ranges::find(rules.origins, place.origin);
    const auto origin = static_cast<hostcalls::policy::Origin>(found - rules.origins.begin());
    if (found == rules.origins.end()) rules.origins.push_back(place.origin);
    rules.paths.push_back({.path = place.path, .rights = place.rights, .origin = origin});
  }
  std::ranges::sort(rules.paths, {}, &hostcalls::policy::PathRule::path);
}

absl::StatusOr<Plan> MakePlan(const Config& config, const ConfigSource& source) {
  Plan plan;
  plan.notes = config.notes;
  PlanNamespaces(config, plan);
  PlanSession(config, plan);
  absl::Status status = PlanMounts(config, source, plan);
  if (!status.ok()) return status;
  PlanDevices(config, plan);
  PlanCapabilities(config, source.file, plan);
  status = CheckSysctls(config, source.file);
  if (status.ok()) status = PlanCalls(config, source, plan);
  if (status.ok()) status = PlanEngine(config, source.file, plan);
  if (!status.ok()) return status;
  return plan;
}

}  // namespace dunebox::oci
