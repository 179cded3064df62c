// The parser of OCI configurations and what they come to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>

#include <algorithm>
#include <string>

#include "sandbox/oci/config.h"
#include "sandbox/oci/plan.h"

namespace dunebox::oci {
namespace {

using hostcalls::policy::kAllRights;
using hostcalls::policy::kNoRights;
using hostcalls::policy::kReadFile;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kProcess[] =
    R"("process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"})";
constexpr char kRoot[] = R"("root": {"path": "rootfs"})";
constexpr char kMounts[] =
    R"("mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}])";
constexpr char kLinux[] = R"("linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]})";

std::string Text(const std::string& process, const std::string& linux_part,
                 const std::string& mounts = kMounts, const std::string& more = "") {
  return R"({"ociVersion": "1.0.2", )" + process + ", " + kRoot + ", " + linux_part + ", " +
         mounts + more + "}";
}

std::string ErrorOf(const std::string& text) {
  const absl::StatusOr<Config> config = ParseConfig(text, "config.json");
  return config.ok() ? "" : std::string(config.status().message());
}

absl::StatusOr<Plan> PlanOf(const std::string& text) {
  const absl::StatusOr<Config> config = ParseConfig(text, "config.json");
  if (!config.ok()) return config.status();
  return MakePlan(*config, {.text = text, .file = "config.json", .bundle = "/b"});
}

std::string PlanError(const std::string& text) {
  const absl::StatusOr<Plan> plan = PlanOf(text);
  return plan.ok() ? "" : std::string(plan.status().message());
}

std::string WithProcess(const std::string& more) {
  return Text(
      R"("process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", )" + more + "}",
      kLinux);
}

std::string WithLinux(const std::string& more) {
  return Text(kProcess,
              R"("linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], )" + more + "}");
}

std::string WithMount(const std::string& mount) {
  return Text(
      kProcess, kLinux,
      R"("mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, )" + mount + "]");
}

TEST(OciConfig, TheLeastOneIsTaken) {
  const std::string text = Text(kProcess, kLinux);
  EXPECT_EQ(ErrorOf(text), "");
  EXPECT_EQ(PlanError(text), "");
}

// Each row is one mistake, and the place that the message names.
TEST(OciConfig, AMistakeIsNamedWithItsPlace) {
  const struct {
    std::string text, error;
  } rows[] = {
      {"[]", "config.json: an object is expected"},
      {"{", "config.json:1:2: "},
      {Text(R"("process": {"user": {"uid": 0, "gid": 0}, "cwd": "/"})", kLinux),
       "config.json: process.args: is missing"},
      {Text(R"("process": {"user": {"uid": 0, "gid": 0}, "args": [], "cwd": "/"})", kLinux),
       "config.json: process.args: is empty"},
      {Text(R"("process": {"user": {"uid": 0, "gid": 0}, "args": "sh", "cwd": "/"})", kLinux),
       "config.json: process.args: a list is expected"},
      {Text(R"("process": {"user": {"uid": -1, "gid": 0}, "args": ["sh"], "cwd": "/"})", kLinux),
       "config.json: process.user.uid: a whole number, not negative, is expected"},
      {Text(R"("process": {"user": {"uid": 4294967296, "gid": 0}, "args": ["sh"], "cwd": "/"})",
            kLinux),
       "config.json: process.user.uid: greater than 4294967295"},
      {Text(R"("process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "x"})", kLinux),
       "config.json: process.cwd: is not an absolute path"},
      {Text(R"("process": {"user": {"uid": 0, "gid": 0}, "args": ["a\u0000b"], "cwd": "/"})",
            kLinux),
       "config.json: process.args[0]: a text without NUL is expected"},
      {WithProcess(R"("rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}])"),
       "config.json: process.rlimits[0].type: \"RLIMIT_X\" is not a limit of this kernel"},
      {WithProcess(R"("rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}])"),
       "config.json: process.rlimits[0].soft: is greater than the hard limit"},
      {WithProcess(R"("rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1},
                                  {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}])"),
       "config.json: process.rlimits: a type is there twice"},
      {WithProcess(R"("oomScoreAdj": 1001)"),
       "config.json: process.oomScoreAdj: is not from -1000 to 1000"},
      {WithProcess(R"("terminal": 1)"), "config.json: process.terminal: true or false is expected"},
      {WithProcess(R"("apparmorProfile": "x")"), "config.json: process.apparmorProfile: labels of"},
      {Text(kProcess, R"("linux": {"namespaces": []})"),
       "config.json: linux.namespaces: without a mount namespace"},
      {Text(kProcess, R"("linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]})"),
       "config.json: linux.namespaces: a type is there twice"},
      {Text(kProcess, R"("linux": {"namespaces": [{"type": "mount"}, {"type": "time"}]})"),
       "config.json: linux.namespaces[1].type: \"time\" namespaces are not supported"},
      {Text(kProcess, R"("linux": {"namespaces": [{"type": "mount"}, {"type": "user"}]})"),
       "config.json: linux.uidMappings: a new user namespace needs mappings"},
      {WithLinux(R"("uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}])"),
       "config.json: linux.uidMappings: without a new user namespace"},
      {WithLinux(R"("maskedPaths": ["proc"])"),
       "config.json: linux.maskedPaths[0]: is not an absolute path"},
      {WithLinux(R"("rootfsPropagation": "shared")"), "config.json: linux.rootfsPropagation: "},
      {WithLinux(R"("intelRdt": {"closID": "x"})"), "config.json: linux.intelRdt: "},
      {WithLinux(R"("resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]})"),
       "config.json: linux.resources.hugepageLimits: "},
      {WithLinux(R"("resources": {"unified": {"../x": "1"}})"),
       "config.json: linux.resources.unified: "},
      {WithLinux(R"("devices": [{"type": "x", "path": "/dev/x", "major": 1, "minor": 1}])"),
       "config.json: linux.devices[0].type: \"x\" is not one letter of cbp"},
      {Text(kProcess, kLinux, kMounts, R"(, "hostname": "x")"),
       "config.json: hostname: needs a uts namespace"},
      {Text(kProcess, kLinux, kMounts, R"(, "hooks": {"prestart": [{"path": "x"}]})"),
       "config.json: hooks.prestart[0].path: is not an absolute path"},
      {Text(kProcess, kLinux, kMounts,
            R"(, "hooks": {"prestart": [{"path": "/x", "timeout": 0}]})"),
       "config.json: hooks.prestart[0].timeout: is not greater than zero"},
      {R"({"ociVersion": "2.0.0"})", "config.json: ociVersion: \"2.0.0\" is not a version 1"},
  };
  for (const auto& row : rows) EXPECT_THAT(ErrorOf(row.text), HasSubstr(row.error)) << row.text;
}

TEST(OciConfig, WhatIsUnknownIsNotedAndWithoutEffect) {
  const auto config = ParseConfig(WithProcess(R"("later": 1, "ioPriority": {"class": "x"})"), "c");
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(config->notes, Contains("c: process.later: unknown, and without effect"));
  EXPECT_THAT(config->notes, Contains(HasSubstr("c: process.ioPriority: without effect")));
}

TEST(OciConfig, AModeMayHaveTheTypeOfTheFileInIt) {
  const auto config = ParseConfig(
      WithLinux(
          R"("devices": [{"type": "c", "path": "/dev/x", "major": 1, "minor": 1, "fileMode": 8630}])"),
      "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->linux_part.devices[0].mode, 0666U);
}

// Encoders write empty values for what is not set.
TEST(OciConfig, AnEmptyValueAsksForNothing) {
  EXPECT_EQ(ErrorOf(WithProcess(R"("apparmorProfile": "", "selinuxLabel": null)")), "");
  EXPECT_EQ(ErrorOf(WithLinux(R"("resources": {"blockIO": {}, "rdma": null})")), "");
}

TEST(OciPlan, NewNamespacesAndThoseOfOthersAreToldApart) {
  const auto plan = PlanOf(Text(kProcess, R"("linux": {"namespaces": [{"type": "network",
      "path": "/proc/1/ns/net"}, {"type": "mount"}, {"type": "uts"}]})"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->new_namespaces, CLONE_NEWNS | CLONE_NEWUTS);
  ASSERT_EQ(plan->joined.size(), 1U);
  EXPECT_EQ(plan->joined[0].flag, CLONE_NEWNET);
}

TEST(OciPlan, MountOptionsBecomeRestrictionsAndTheFileSystemsOwn) {
  const auto plan = PlanOf(WithMount(
      R"({"destination": "/t", "type": "tmpfs", "options": ["nosuid", "ro", "rw", "size=64k", "noexec"]},
         {"destination": "/d", "source": "data", "options": ["rbind", "ro", "rprivate"]})"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->mounts.size(), 3U);
  const MountStep& tmpfs = plan->mounts[1];
  EXPECT_EQ(tmpfs.flags, confinement::kNoSetUserId | confinement::kNoExecute);
  EXPECT_EQ(tmpfs.options, (confinement::MountTree::Options{{"size", "64k"}}));
  const MountStep& bind = plan->mounts[2];
  EXPECT_EQ(bind.kind, MountKind::kBind);
  EXPECT_EQ(bind.source, "/b/data");
  EXPECT_TRUE(bind.recursive);
  EXPECT_EQ(bind.flags, confinement::kReadOnly);
}

TEST(OciPlan, AMountThatCannotBeRestrictedAsAskedIsRefused) {
  EXPECT_THAT(
      PlanError(WithMount(R"({"destination": "/d", "source": "/d", "options": ["bind", "odd"]})")),
      HasSubstr("mounts[1]: option \"odd\" is unknown"));
  EXPECT_THAT(PlanError(WithMount(
                  R"({"destination": "/d", "source": "/d", "options": ["bind", "shared"]})")),
              HasSubstr("not shared"));
  EXPECT_THAT(
      PlanError(WithMount(R"({"destination": "/d", "type": "ext4", "source": "/dev/vda"})")),
      HasSubstr("file system \"ext4\" is not supported"));
  EXPECT_THAT(
      PlanError(WithMount(R"({"destination": "/proc/self", "source": "/d", "options": ["bind"]})")),
      HasSubstr("nothing may be mounted below /proc"));
  EXPECT_THAT(PlanError(WithMount(R"({"destination": "/p", "type": "proc", "source": "proc"})")),
              HasSubstr("belongs to /proc"));
  EXPECT_THAT(PlanError(WithMount(R"({"destination": "/proc", "type": "tmpfs"})")),
              HasSubstr("belongs to /proc"));
  EXPECT_THAT(PlanError(Text(kProcess, kLinux, R"("mounts": [])")), HasSubstr("needed at /proc"));
}

TEST(OciPlan, ASettingOfTheHostsIsRefused) {
  const std::string ipc =
      R"("linux": {"namespaces": [{"type": "mount"}, {"type": "ipc"}], "sysctl": )";
  EXPECT_EQ(PlanError(Text(kProcess, ipc + R"({"kernel.shmmax": "1"}})")), "");
  EXPECT_THAT(PlanError(Text(kProcess, ipc + R"({"net.core.somaxconn": "1"}})")),
              HasSubstr("would change the host's"));
  for (const char* const name :
       {"kernel.core_pattern", "fs.mqueue../x", "kernel.shmmax.x", "vm.swappiness"}) {
    EXPECT_THAT(PlanError(Text(kProcess, ipc + R"({")" + name + R"(": "1"}})")),
                HasSubstr("not a setting of a container's own"));
  }
}

TEST(OciPlan, CapabilitiesAreThoseThatAnExecveWouldLeave) {
  constexpr CapabilityBits kKill = CapabilityBits{1} << CAP_KILL,
                           kChown = CapabilityBits{1} << CAP_CHOWN;
  Process process{.args = {"sh"}, .cwd = "/"};
  EXPECT_EQ(KeptCapabilities(process), 0U);  // none are named, none are given
  process.capabilities = CapabilitySets{.bounding = kKill, .permitted = kKill | kChown};
  EXPECT_EQ(KeptCapabilities(process), kKill);
  process.user.uid = 1000;
  EXPECT_EQ(KeptCapabilities(process), 0U);
  process.capabilities->inheritable = process.capabilities->ambient = kKill;
  EXPECT_EQ(KeptCapabilities(process), kKill);
}

TEST(OciPlan, WhoMayUseNoDevicesMakesNone) {
  const std::string process =
      R"("process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/",
      "capabilities": {"bounding": ["CAP_MKNOD", "CAP_KILL"], "permitted": ["CAP_MKNOD", "CAP_KILL"]}})";
  const std::string begin = R"("linux": {"namespaces": [{"type": "mount"}], "resources": )";
  const auto denied =
      PlanOf(Text(process, begin + R"({"devices": [{"allow": false, "access": "rwm"}]}})"));
  ASSERT_TRUE(denied.ok()) << denied.status();
  EXPECT_EQ(denied->kept_capabilities, CapabilityBits{1} << CAP_KILL);
  EXPECT_THAT(denied->notes, Contains(HasSubstr("CAP_MKNOD is not given")));
  const auto allowed = PlanOf(Text(process, begin + R"({"devices": [{"allow": true}]}})"));
  ASSERT_TRUE(allowed.ok());
  EXPECT_NE(allowed->kept_capabilities & CapabilityBits{1} << CAP_MKNOD, 0U);
}

TEST(OciPlan, TheProfileBecomesRulesOfTheSession) {
  const auto plan =
      PlanOf(WithLinux(R"("seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
      "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]})"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto& rules = plan->session.rules;
  EXPECT_FALSE(rules.allow_all);
  EXPECT_EQ(rules.default_call_action, hostcalls::policy::CallAction::kError);
  EXPECT_EQ(rules.default_call_error, 38);
  ASSERT_EQ(rules.calls.size(), 2U);
  EXPECT_EQ(rules.OriginText(rules.calls[0].origin), "config.json: /linux/seccomp/syscalls/0");
  EXPECT_THAT(PlanError(WithLinux(R"("seccomp": {"defaultAction": "SCMP_ACT_TRACE"})")),
              HasSubstr("/linux/seccomp/defaultAction"));
}

TEST(OciPlan, TheSessionIsConfinedWithinTheContainersNamespaces) {
  const auto plan = PlanOf(Text(kProcess, kLinux));
  ASSERT_TRUE(plan.ok());
  EXPECT_TRUE(plan->session.plan.confine);
  EXPECT_TRUE(plan->session.plan.is_in_place);
  EXPECT_FALSE(plan->session.rules.allow_all);
}

TEST(OciPlan, AnAnnotationNamesTheEngine) {
  const auto with = [](const std::string& engine) {
    return Text(kProcess, kLinux, kMounts,
                R"(, "annotations": {"dunebox.engine": ")" + engine + "\"}");
  };
  EXPECT_EQ(PlanOf(with("jit"))->session.engine, runtime::EngineChoice::kJit);
  EXPECT_EQ(PlanOf(Text(kProcess, kLinux))->session.engine, runtime::EngineChoice::kAuto);
  EXPECT_THAT(PlanError(with("qemu")),
              HasSubstr("annotations.dunebox.engine: \"qemu\" is not one of"));
}

TEST(OciPlan, TheInnermostPlaceDecidesAboutFiles) {
  hostcalls::policy::Rules rules{.allow_all = false, .origins = {"default"}};
  AddFileRules({{"/", RightsOf(confinement::kReadOnly), "root"},
                {"/data", RightsOf(0), "mounts[1]"},
                {"/proc/kcore", kNoRights, "masked"},
                {"/proc", RightsOf(confinement::kNoExecute), "mounts[0]"}},
               rules);
  EXPECT_EQ(rules.RightsOn("/etc/x").rights, hostcalls::policy::kReadOnly);
  EXPECT_EQ(rules.RightsOn("/data/x").rights, kAllRights);
  EXPECT_EQ(rules.RightsOn("/proc/kcore").rights, kNoRights);
  EXPECT_NE(rules.RightsOn("/proc/x").rights & kReadFile, 0);
  EXPECT_EQ(rules.OriginText(rules.RightsOn("/proc/kcore").origin), "masked");
  EXPECT_TRUE(std::ranges::is_sorted(rules.paths, {}, &hostcalls::policy::PathRule::path));
}

}  // namespace
}  // namespace dunebox::oci
