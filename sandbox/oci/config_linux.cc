#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "sandbox/oci/config_parts.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

using nlohmann::json;

constexpr std::uint32_t kPermissions = 07777, kMostMode = 0177777;

constexpr std::pair<std::string_view, NamespaceKind> kNamespaces[] = {
#define OCI_NAMESPACE(name, kind, flag) {name, NamespaceKind::kind},
#include "sandbox/oci/names.inc"
};

char OneOf(Fields& fields, std::string_view name, const std::string& text,
           std::string_view letters) {
  if (text.size() == 1 && letters.find(text[0]) != letters.npos) return text[0];
  fields.Fail(name, fmt::format("{} is not one letter of {}", policy::Quoted(text), letters));
  return letters[0];
}

void CheckPaths(Document& document, const std::vector<std::string>& paths,
                const std::string& place) {
  for (std::size_t i = 0; i < paths.size(); ++i) {
    CheckAbsolute(document, fmt::format("{}[{}]", place, i), paths[i]);
  }
}

void CheckNamespaces(Fields& fields, const Linux& config) {
  const auto& all = config.namespaces;
  for (auto entry = all.begin(); entry != all.end(); ++entry) {
    if (std::any_of(all.begin(), entry,
                    [&](const Namespace& before) { return before.kind == entry->kind; })) {
      fields.Fail("namespaces", "a type is there twice");
    }
  }
  if (config.Find(NamespaceKind::kMount) == nullptr) {
    fields.Fail("namespaces", "without a mount namespace the host's mounts would change");
  }
  if (const Namespace* mount = config.Find(NamespaceKind::kMount); mount && !mount->path.empty()) {
    fields.Fail("namespaces", "a mount namespace of others would get this container's mounts");
  }
  const Namespace* const user = config.Find(NamespaceKind::kUser);
  const bool makes_user = user != nullptr && user->path.empty();
  const bool has_mappings = !config.uid_mappings.empty() || !config.gid_mappings.empty();
  if (has_mappings && !makes_user) fields.Fail("uidMappings", "without a new user namespace");
  if (makes_user && (config.uid_mappings.empty() || config.gid_mappings.empty())) {
    fields.Fail("uidMappings", "a new user namespace needs mappings of users and groups");
  }
}

void TakeMemory(Document& document, const json& value, const std::string& place, Resources& out) {
  Fields fields(document, value, place);
  fields.Take("limit", out.memory);
  fields.Take("reservation", out.memory_reservation);
  fields.Take("swap", out.memory_and_swap);
  fields.Refuse("kernel", "limits of the kernel's memory alone are not supported");
  fields.Refuse("kernelTCP", "limits of the kernel's memory alone are not supported");
  fields.Ignore("swappiness", "it is about speed alone");
  fields.Ignore("disableOOMKiller", "what needs too much memory is ended");
  fields.Ignore("useHierarchy", "it always is");
  fields.Ignore("checkBeforeUpdate", "limits are not changed later");
  fields.End();
}

void TakeCpu(Document& document, const json& value, const std::string& place, Resources& out) {
  Fields fields(document, value, place);
  fields.Take("shares", out.cpu_shares);
  fields.Take("quota", out.cpu_quota);
  fields.Take("period", out.cpu_period);
  fields.Take("cpus", out.cpus);
  fields.Take("mems", out.memory_nodes);
  fields.Refuse("realtimeRuntime", "limits of real-time scheduling are not supported");
  fields.Refuse("realtimePeriod", "limits of real-time scheduling are not supported");
  fields.Ignore("burst", "not supported, and the limit holds without it");
  fields.Ignore("idle", "it is about speed alone");
  fields.End();
}

// A section of a section, whose values are the outer one's here.
struct MemoryPart {
  Resources& out;
};
struct CpuPart {
  Resources& out;
};
struct PidsPart {
  Resources& out;
};
void Read(Document& document, const json& value, const std::string& place, MemoryPart& part) {
  TakeMemory(document, value, place, part.out);
}
void Read(Document& document, const json& value, const std::string& place, CpuPart& part) {
  TakeCpu(document, value, place, part.out);
}
void Read(Document& document, const json& value, const std::string& place, PidsPart& part) {
  Fields fields(document, value, place);
  fields.Need("limit", part.out.pids);
  fields.End();
}

// Is read by the importer of policies; here it only has to be there.
struct SeccompPart {};
void Read(Document& document, const json& value, const std::string& place, SeccompPart&) {
  if (!value.is_object()) document.Fail(place, "an object is expected");
}

}  // namespace

bool Resources::HasLimits() const {
  const auto is_limit = [](const std::optional<std::int64_t>& value) {
    return value.has_value() && *value > 0;
  };
  return is_limit(memory) || is_limit(memory_reservation) || is_limit(memory_and_swap) ||
         is_limit(pids) || is_limit(cpu_quota) || cpu_shares.value_or(0) != 0 || !cpus.empty() ||
         !memory_nodes.empty() || !unified.empty();
}

const Namespace* Linux::Find(NamespaceKind kind) const {
  const auto found = std::ranges::find(namespaces, kind, &Namespace::kind);
  return found == namespaces.end() ? nullptr : &*found;
}

void Read(Document& document, const json& value, const std::string& place, Namespace& out) {
  Fields fields(document, value, place);
  std::string type;
  fields.Need("type", type);
  const auto* const row =
      std::ranges::find(kNamespaces, type, &std::pair<std::string_view, NamespaceKind>::first);
  if (row == std::end(kNamespaces)) {
    fields.Fail("type", fmt::format("{} namespaces are not supported", policy::Quoted(type)));
  } else {
    out.kind = row->second;
  }
  if (fields.Take("path", out.path) && !out.path.empty()) {
    CheckAbsolute(document, fields.PlaceOf("path"), out.path);
  }
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, IdMapping& out) {
  Fields fields(document, value, place);
  fields.Need("containerID", out.container_id);
  fields.Need("hostID", out.host_id);
  fields.Need("size", out.size);
  if (out.size == 0) fields.Fail("size", "is zero");
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Device& out) {
  Fields fields(document, value, place);
  std::string type;
  fields.Need("type", type);
  // An unbuffered character device is one.
  out.type = OneOf(fields, "type", type == "u" ? "c" : type, "cbp");
  fields.Need("path", out.path);
  CheckAbsolute(document, fields.PlaceOf("path"), out.path);
  if (out.type == 'p') {
    fields.Take("major", out.major);
    fields.Take("minor", out.minor);
  } else {
    fields.Need("major", out.major);
    fields.Need("minor", out.minor);
  }
  if (fields.Take("fileMode", out.mode) && out.mode > kMostMode) {
    fields.Fail("fileMode", "is greater than 0177777");
  }
  out.mode &= kPermissions;  // engines also write the type there
  fields.Take("uid", out.uid);
  fields.Take("gid", out.gid);
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, DeviceRule& out) {
  Fields fields(document, value, place);
  fields.Need("allow", out.allow);
  std::string type = "a";
  fields.Take("type", type);
  out.type = OneOf(fields, "type", type, "acb");
  fields.Take("major", out.major);
  fields.Take("minor", out.minor);
  fields.Take("access", out.access);
  if (out.access.find_first_not_of("rwm") != std::string::npos) {
    fields.Fail("access", "is not of the letters r, w and m");
  }
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Resources& out) {
  Fields fields(document, value, place);
  fields.Take("devices", out.devices);
  MemoryPart memory{out};
  CpuPart cpu{out};
  PidsPart pids{out};
  fields.Take("memory", memory);
  fields.Take("cpu", cpu);
  fields.Take("pids", pids);
  fields.Take("unified", out.unified);
  for (const auto& [file, text] : out.unified) {
    if (file.empty() || file.find('/') != std::string::npos || file[0] == '.') {
      fields.Fail("unified", fmt::format("{} is not a file's name", policy::Quoted(file)));
    }
  }
  fields.Refuse("hugepageLimits", "limits of huge pages are not supported");
  fields.Refuse("blockIO", "limits of block devices are not supported");
  fields.Refuse("rdma", "limits of remote memory access are not supported");
  fields.Ignore("network", "it is about speed alone, and not supported");
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Linux& out) {
  Fields fields(document, value, place);
  fields.Take("namespaces", out.namespaces);
  fields.Take("uidMappings", out.uid_mappings);
  fields.Take("gidMappings", out.gid_mappings);
  CheckNamespaces(fields, out);
  fields.Take("devices", out.devices);
  fields.Take("cgroupsPath", out.cgroups_path);
  fields.Take("resources", out.resources);
  SeccompPart seccomp;
  out.has_seccomp = fields.Take("seccomp", seccomp);
  fields.Take("maskedPaths", out.masked_paths);
  fields.Take("readonlyPaths", out.readonly_paths);
  CheckPaths(document, out.masked_paths, fields.PlaceOf("maskedPaths"));
  CheckPaths(document, out.readonly_paths, fields.PlaceOf("readonlyPaths"));
  fields.Take("sysctl", out.sysctl);
  std::string propagation;
  fields.Take("rootfsPropagation", propagation);
  if (!propagation.empty() && propagation != "private" && propagation != "rprivate" &&
      propagation != "slave" && propagation != "rslave") {
    fields.Fail("rootfsPropagation", "mounts of a container are not shared with others");
  }
  fields.Refuse("mountLabel", "labels of security modules are not supported");
  fields.Refuse("timeOffsets", "time namespaces are not supported");
  fields.Refuse("personality", "other execution domains are not supported");
  fields.Refuse("intelRdt", "limits of cache and memory bandwidth are not supported");
  fields.End();
}

}  // namespace dunebox::oci
