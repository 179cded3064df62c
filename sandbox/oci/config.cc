#include "sandbox/oci/config.h"

#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>

#include "sandbox/oci/config_parts.h"
#include "sandbox/oci/json_fields.h"
#include "sandbox/policy/json_document.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestHostname = 64;  // [linux] __NEW_UTS_LEN

constexpr std::string_view kHookNames[] = {
#define OCI_HOOK(name, point) name,
#include "sandbox/oci/names.inc"
};
static_assert(std::size(kHookNames) == kHookPointCount);

}  // namespace

void Read(Document& document, const json& value, const std::string& place, Root& out) {
  Fields fields(document, value, place);
  fields.Need("path", out.path);
  if (out.path.empty()) fields.Fail("path", "is empty");
  fields.Take("readonly", out.readonly);
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Mount& out) {
  Fields fields(document, value, place);
  fields.Need("destination", out.destination);
  CheckAbsolute(document, fields.PlaceOf("destination"), out.destination);
  fields.Take("type", out.type);
  fields.Take("source", out.source);
  fields.Take("options", out.options);
  fields.Refuse("uidMappings", "mounts with mapped ids are not supported");
  fields.Refuse("gidMappings", "mounts with mapped ids are not supported");
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Hook& out) {
  Fields fields(document, value, place);
  fields.Need("path", out.path);
  CheckAbsolute(document, fields.PlaceOf("path"), out.path);
  fields.Take("args", out.args);
  fields.Take("env", out.env);
  if (fields.Take("timeout", out.timeout) && *out.timeout <= 0) {
    fields.Fail("timeout", "is not greater than zero");
  }
  fields.End();
}

void Read(Document& document, const json& value, const std::string& place, Hooks& out) {
  Fields fields(document, value, place);
  for (std::size_t i = 0; i < kHookPointCount; ++i) fields.Take(kHookNames[i], out.all[i]);
  fields.End();
}

void CheckAbsolute(Document& document, const std::string& place, const std::string& path) {
  if (!path.starts_with('/')) document.Fail(place, "is not an absolute path");
  if (path.size() >= PATH_MAX) document.Fail(place, "is longer than a path can be");
}

std::string_view NameOf(HookPoint point) { return kHookNames[static_cast<std::size_t>(point)]; }

absl::StatusOr<Config> ParseConfig(std::string_view text, std::string_view file) {
  const absl::StatusOr<json> json_text = policy::ParseJson(text, file);
  if (!json_text.ok()) return json_text.status();
  Document document(file);
  Config config;
  Fields fields(document, *json_text, "");
  fields.Need("ociVersion", config.version);
  if (!config.version.starts_with("1.")) {
    fields.Fail("ociVersion", fmt::format("{} is not a version 1", policy::Quoted(config.version)));
  }
  fields.Need("process", config.process);
  fields.Need("root", config.root);
  fields.Need("linux", config.linux_part);
  fields.Take("hostname", config.hostname);
  fields.Take("domainname", config.domainname);
  for (const auto& [name, value] : {std::pair("hostname", &config.hostname),
                                    std::pair("domainname", &config.domainname)}) {
    if (value->size() > kLongestHostname) fields.Fail(name, "is longer than 64 bytes");
    if (!value->empty() && config.linux_part.Find(NamespaceKind::kUts) == nullptr) {
      fields.Fail(name, "needs a uts namespace, or the host's would change");
    }
  }
  fields.Take("mounts", config.mounts);
  fields.Take("hooks", config.hooks);
  fields.Take("annotations", config.annotations);
  if (config.annotations.contains("")) fields.Fail("annotations", "a name is empty");
  for (const char* const platform : {"solaris", "windows", "vm", "zos"}) {
    fields.Ignore(platform, "it is about another platform");
  }
  fields.End();
  if (!document.status().ok()) return document.status();
  config.notes = document.notes();
  return config;
}

}  // namespace dunebox::oci
