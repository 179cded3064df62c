// Feeds arbitrary bytes to the parser of OCI configurations and holds what it accepts to what the
// commands rely on: paths, counts and restrictions that are taken as they come.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sandbox/oci/config.h"
#include "sandbox/oci/plan.h"

namespace dunebox::oci {
namespace {

constexpr std::string_view kName = "c.json";

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "accepted configuration violates: %s\n", what);
  std::abort();
}

bool IsPath(const std::string& text) {
  return text.starts_with('/') && text.find('\0') == std::string::npos;
}

void CheckError(const absl::Status& status) {
  Require(status.code() == absl::StatusCode::kInvalidArgument, "the text's fault");
  Require(std::string(status.message()).starts_with(kName), "an error says where");
}

void CheckConfig(const Config& config) {
  Require(!config.process.args.empty(), "a program");
  Require(IsPath(config.process.cwd), "a directory to start in");
  Require(!config.root.path.empty(), "a root");
  Require(config.linux_part.Find(NamespaceKind::kMount) != nullptr, "a mount namespace");
  for (const Rlimit& limit : config.process.rlimits) Require(limit.soft <= limit.hard, "limits");
  for (const Mount& mount : config.mounts)
    Require(IsPath(mount.destination), "a place to mount at");
  for (const Device& device : config.linux_part.devices) {
    Require(IsPath(device.path) && device.mode <= 07777, "a device");
  }
}

void CheckPlan(const Plan& plan) {
  Require(plan.session.plan.confine && !plan.session.rules.allow_all, "two walls");
  Require((plan.kept_capabilities >> 41) == 0, "capabilities of the table");
  for (const MountStep& mount : plan.mounts) {
    Require(mount.kind != MountKind::kBind || IsPath(mount.source), "a source");
    Require(!mount.destination.starts_with("/proc/"), "nothing below /proc");
  }
  for (const auto& rule : plan.session.rules.calls) {
    Require(rule.origin < plan.session.rules.origins.size(), "an origin");
  }
}

void Parse(std::string_view text) {
  const absl::StatusOr<Config> config = ParseConfig(text, kName);
  if (!config.ok()) return CheckError(config.status());
  CheckConfig(*config);
  const absl::StatusOr<Plan> plan =
      MakePlan(*config, {.text = text, .file = kName, .bundle = "/b"});
  if (!plan.ok()) return CheckError(plan.status());
  CheckPlan(*plan);
}

}  // namespace
}  // namespace dunebox::oci

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::oci::Parse({reinterpret_cast<const char*>(data), size});
  return 0;
}
