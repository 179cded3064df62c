#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "sandbox/oci/config_parts.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

using nlohmann::json;

constexpr int kLeastOomScore = -1000, kMostOomScore = 1000;  // [linux] proc(5)
constexpr std::uint32_t kMostUmask = 0777;

constexpr std::pair<std::string_view, int> kResources[] = {
#define OCI_RLIMIT(name) {#name, name},
#include "sandbox/oci/names.inc"
};

constexpr std::pair<std::string_view, int> kCapabilities[] = {
#define OCI_CAPABILITY(name) {#name, name},
#include "sandbox/oci/names.inc"
};

template <typename Table>
std::optional<int> Lookup(const Table& table, const std::string& name) {
  const auto* const row = std::ranges::find(table, name, [](const auto& entry) { return entry.first; });
  return row == std::end(table) ? std::nullopt : std::optional(row->second);
}

void TakeCapabilities(Document& document, Fields& fields, std::string_view set,
                      CapabilityBits& out) {
  std::vector<std::string> names;
  fields.Take(set, names);
  for (const std::string& name : names) {
    if (const std::optional<int> number = Lookup(kCapabilities, name)) {
      out |= CapabilityBits{1} << *number;
    } else {
      // To be without one is no danger.
      document.Note(fields.PlaceOf(set),
                    fmt::format("{} is unknown, and not given", policy::Quoted(name)));
    }
  }
}

void CheckEachOnce(Document& document, const std::vector<Rlimit>& limits,
                   const std::string& place) {
  for (auto limit = limits.begin(); limit != limits.end(); ++limit) {
    if (std::count_if(limits.begin(), limit, [&](const Rlimit& before) {
          return before.resource == limit->resource;
        }) != 0) {
      document.Fail(place, "a type is there twice");
    }
  }
}

}  // namespace

void Read(Document& document, const json& value, const std::string& place, CapabilitySets& out) {
  Fields fields(document, value, place);
  TakeCapabilities(document, fields, "bounding", out.bounding);
  TakeCapabilities(document, fields, "effective", out.effective);
  TakeCapabilities(document, fields, "permitted", out.permitted);
  TakeCapabilities(document, fields, "inheritable", out.inheritable);
  TakeCapabilities(document, fields, "ambient", out.ambient);
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Rlimit& out) {
  Fields fields(document, value, place);
  std::string type;
  fields.Need("type", type);
  if (const std::optional<int> resource = Lookup(kResources, type)) {
    out.resource = *resource;
  } else {
    fields.Fail("type", fmt::format("{} is not a limit of this kernel", policy::Quoted(type)));
  }
  fields.Need("soft", out.soft);
  fields.Need("hard", out.hard);
  if (out.soft > out.hard) fields.Fail("soft", "is greater than the hard limit");
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, User& out) {
  Fields fields(document, value, place);
  fields.Need("uid", out.uid);
  fields.Need("gid", out.gid);
  if (fields.Take("umask", out.umask) && *out.umask > kMostUmask) {
    fields.Fail("umask", "is greater than 0777");
  }
  fields.Take("additionalGids", out.additional_gids);
  fields.Ignore("username", "it is about another platform");
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, ConsoleSize& out) {
  Fields fields(document, value, place);
  fields.Need("height", out.height);
  fields.Need("width", out.width);
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Process& out) {
  Fields fields(document, value, place);
  fields.Take("terminal", out.terminal);
  fields.Take("consoleSize", out.console_size);
  fields.Need("user", out.user);
  fields.Need("args", out.args);
  if (out.args.empty()) fields.Fail("args", "is empty");
  fields.Take("env", out.env);
  fields.Need("cwd", out.cwd);
  CheckAbsolute(document, fields.PlaceOf("cwd"), out.cwd);
  fields.Take("capabilities", out.capabilities);
  fields.Take("rlimits", out.rlimits);
  CheckEachOnce(document, out.rlimits, fields.PlaceOf("rlimits"));
  fields.Take("noNewPrivileges", out.no_new_privileges);
  if (fields.Take("oomScoreAdj", out.oom_score_adjust) &&
      (*out.oom_score_adjust < kLeastOomScore || *out.oom_score_adjust > kMostOomScore)) {
    fields.Fail("oomScoreAdj", "is not from -1000 to 1000");
  }
  constexpr std::string_view kLabels = "labels of security modules are not supported";
  fields.Refuse("apparmorProfile", kLabels);
  fields.Refuse("selinuxLabel", kLabels);
  constexpr std::string_view kSpeed = "it is about speed alone, and not supported";
  fields.Ignore("ioPriority", kSpeed);
  fields.Ignore("scheduler", kSpeed);
  fields.Ignore("execCPUAffinity", kSpeed);
  fields.Ignore("commandLine", "it is about another platform");
  fields.End();
}

}  // namespace dunebox::oci
