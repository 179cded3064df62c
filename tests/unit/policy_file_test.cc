#include "sandbox/policy/policy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "sandbox/policy/settings.h"

namespace dunebox::policy {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text) {
  Policy policy;
  const absl::Status status = AddPolicyText(policy, text, "p.toml");
  return status.ok() ? "no error" : std::string(status.message());
}

Policy PolicyOf(std::string_view text) {
  Policy policy;
  const absl::Status status = AddPolicyText(policy, text, "p.toml");
  EXPECT_TRUE(status.ok()) << status;
  return policy;
}

TEST(PolicyFile, EachKeySetsWhatItSays) {
  const Policy policy = PolicyOf(R"(
allow = "python"
audit = true
engine = "jit"
jit-isolation = "mask"
network = ["tcp:192.0.2.1:443", "listen:8000-8010"]
directory = "/srv"
require = ["wall2", "landlock"]
die-with-parent = true

[files]
read = ["/srv", "/data:/srv/data"]
write = "/srv/out"
tmpfs = ["/scratch:64M"]
devices = ["/dev/fuse"]

[calls]
default = "deny=ENOSYS"
rules = ["allow ioctl,fcntl if arg1 == 0x5401 and arg2 & 6 == 4", "kill @module"]

[environment]
clear = true
variables = ["LANG", "MODE=test"]

[identity]
hostname = "box"
uid = 1000
gid = 100

[limits]
time = "10s"
cpu-time = "1500ms"
mem = "512M"
pids = 64
nofile = 32
fsize = 1073741824
output = "1M"
)");
  EXPECT_EQ(policy.audit, "p.toml:3");
  EXPECT_EQ(policy.engine->value, runtime::EngineChoice::kJit);
  EXPECT_EQ(policy.isolation->value, jit::Isolation::kMask);
  ASSERT_EQ(policy.network.size(), 2u);
  EXPECT_EQ(policy.network[0].host, "192.0.2.1");
  EXPECT_EQ(policy.network[0].first_port, 443);
  EXPECT_EQ(policy.network[1].kind, NetworkKind::kListen);
  EXPECT_EQ(policy.network[1].last_port, 8010);
  EXPECT_EQ(policy.directory->value, "/srv");
  ASSERT_EQ(policy.required.size(), 2u);
  EXPECT_FALSE(policy.required[0].mechanism.has_value());
  EXPECT_EQ(policy.required[1].mechanism, confinement::Mechanism::kLandlock);
  EXPECT_TRUE(policy.die_with_parent.has_value());
  ASSERT_GE(policy.files.size(), 5u);
  const FileRule* const own = &policy.files[policy.files.size() - 5];
  EXPECT_EQ(own[0].source, "/srv");
  EXPECT_EQ(own[0].origin, "p.toml:12");
  EXPECT_EQ(own[1].target, "/srv/data");
  EXPECT_EQ(own[2].rights, hostcalls::policy::kAllRights);
  EXPECT_EQ(own[3].kind, TreeKind::kTmpfs);
  EXPECT_EQ(own[3].size, 64u << 20);
  EXPECT_EQ(own[4].rights, hostcalls::policy::kReadFile | hostcalls::policy::kWriteFile);
  EXPECT_EQ(policy.default_call->value, hostcalls::policy::CallAction::kError);
  EXPECT_EQ(policy.default_call_error, 38);
  ASSERT_EQ(policy.calls.size(), 3u);
  EXPECT_EQ(policy.calls[1].calls, "fcntl");
  ASSERT_EQ(policy.calls[1].conditions.size(), 2u);
  EXPECT_EQ(policy.calls[1].conditions[1].mask, 6u);
  EXPECT_EQ(policy.calls[2].action, hostcalls::policy::CallAction::kKill);
  EXPECT_EQ(policy.clear_environment, "p.toml:22");
  EXPECT_EQ(policy.environment.back().entry, "MODE=test");
  EXPECT_EQ(policy.hostname->value, "box");
  EXPECT_EQ(policy.uid->value, 1000u);
  EXPECT_EQ(policy.gid->value, 100u);
  EXPECT_EQ(policy.limits.wall_time->value, std::chrono::seconds(10));
  EXPECT_EQ(policy.limits.cpu_time->value, std::chrono::milliseconds(1500));
  EXPECT_EQ(policy.limits.memory->value, 512u << 20);
  EXPECT_EQ(policy.limits.tasks->value, 64u);
  EXPECT_EQ(policy.limits.open_files->value, 32u);
  EXPECT_EQ(policy.limits.file_size->value, 1u << 30);
  EXPECT_EQ(policy.limits.output->value, 1u << 20);
}

// One golden text for each way in which a file can be wrong.
struct WrongFile {
  std::string_view text;
  std::string_view error;
};

TEST(PolicyFile, WhatIsWrongIsSaidWithItsPlace) {
  constexpr WrongFile kWrongFiles[] = {
      {"x = 1\n", "p.toml:1:1: unknown key 'x'"},
      {"[files]\n raed = '/'\n",
       "p.toml:2:2: unknown key 'files.raed'; did you mean 'files.read'?"},
      {"[files]\nro = '/'\n", "p.toml:2:1: unknown key 'files.ro'; did you mean 'files.read'?"},
      {"net = 'host'\n", "p.toml:1:1: unknown key 'net'; did you mean 'network'?"},
      {"[limit]\npids = 3\n", "p.toml:1:2: unknown key 'limit'; did you mean 'limits'?"},
      {"[files]\nread = 3\n",
       "p.toml:2:8: files.read is a string or an array of strings, and not a whole number"},
      {"[files]\nread = ['/a', ['/b']]\n",
       "p.toml:2:15: files.read is a string or an array of strings, and not an array"},
      {"files = 3\n", "p.toml:1:9: files is a table, as in [files], and not a whole number"},
      {"[[files]]\nread = '/'\n", "p.toml:1:1: files is a table, as in [files], and not an array"},
      {"audit = 'yes'\n", "p.toml:1:9: audit is true or false, and not a string"},
      {"[limits]\npids = 1.5\n",
       "p.toml:2:8: limits.pids is a whole number, and not a number with a fraction"},
      {"[limits]\npids = -1\n", "p.toml:2:8: limits.pids: '-1' is not a number from 1 to 32768"},
      {"[limits]\nmem = true\n",
       "p.toml:2:7: limits.mem is a whole number or a string as \"64M\", and not true or false"},
      {"[limits]\ntime = 10\n", "p.toml:2:8: limits.time is a string, and not a whole number"},
      {"[limits]\ntime = '10'\n",
       "p.toml:2:8: limits.time: '10' is not a whole number with ms, s, m or h, from 1ms to 8760h"},
      {"allow = 'pyton'\n",
       "p.toml:1:9: allow: 'pyton' is not one of all, build, python, network-client, server; "
       "did you mean 'python'?"},
      {"engine = 'vax'\n", "p.toml:1:10: engine: 'vax' is not one of auto, kvm, jit"},
      {"require = ['seccomp', 'landlok']\n",
       "p.toml:1:23: require: 'landlok' is not one of wall2, seccomp, landlock, user-namespace, "
       "mount-namespace, pid-namespace, network-namespace, ipc-namespace, uts-namespace, cgroup; "
       "did you mean 'landlock'?"},
      {"network = 'tcp:example.org'\n",
       "p.toml:1:11: network: 'tcp:example.org' is not tcp:HOST:PORT"},
      {"network = 'tcp:h:0'\n",
       "p.toml:1:11: network: '0' is not a port from 1 to 65535, a range N-M or *"},
      {"network = 'tcp:h:9-8'\n",
       "p.toml:1:11: network: '9-8' is not a port from 1 to 65535, a range N-M or *"},
      {"network = 'tcp:::1:80'\n",
       "p.toml:1:11: network: 'tcp:::1:80' needs brackets around an address with colons: [::1]"},
      {"network = 'tcp::80'\n", "p.toml:1:11: network: 'tcp::80' names no host"},
      {"[files]\ntmpfs = 'x'\n", "p.toml:2:9: files.tmpfs: 'x' is not an absolute path"},
      {"[files]\ntmpfs = '/x:big'\n", "p.toml:2:9: files.tmpfs: 'big' is not a size, as in 64M"},
      {"[files]\ndevices = '/dev/../etc'\n",
       "p.toml:2:11: files.devices: '/dev/../etc' is not a file of /dev"},
      {"[files]\ndevices = '/etc'\n", "p.toml:2:11: files.devices: '/etc' is not a file of /dev"},
      {"[files]\nread = ''\n", "p.toml:2:8: files.read: '' is no path"},
      {"[calls]\nrules = 'deny ptrce'\n",
       "p.toml:2:9: calls.rules: 'ptrce' is no system call; did you mean 'ptrace'?"},
      {"[calls]\nrules = 'deny @mont'\n",
       "p.toml:2:9: calls.rules: '@mont' is no group of system calls; did you mean '@mount'?"},
      {"[calls]\nrules = 'deny=EPREM open'\n",
       "p.toml:2:9: calls.rules: 'EPREM' is no name of an error, as EPERM or ENOSYS"},
      {"[calls]\nrules = 'forbid open'\n",
       "p.toml:2:9: calls.rules: 'forbid' is not one of allow, deny, deny=ERRNO, kill"},
      {"[calls]\nrules = 'deny open when x'\n", "p.toml:2:9: calls.rules: 'when' is not 'if'"},
      {"[calls]\nrules = 'deny open if arg6 == 1'\n",
       "p.toml:2:9: calls.rules: 'arg6' is not an argument from arg0 to arg5"},
      {"[calls]\nrules = 'deny open if arg1 = 1'\n",
       "p.toml:2:9: calls.rules: 'arg1 = 1' is not a condition: argN == NUMBER, with ==, !=, <, "
       "<=, "
       ">, >=, or argN & MASK == NUMBER"},
      {"[calls]\nrules = 'deny open if arg1 & 1 == 2'\n",
       "p.toml:2:9: calls.rules: '2' has bits that the mask takes away"},
      {"[identity]\nuid = 4294967295\n",
       "p.toml:2:7: identity.uid: '4294967295' is not a number from 0 to 4294967294"},
      {"[identity]\nhostname = 'a b'\n",
       "p.toml:2:12: identity.hostname: 'a b' is not a host name of 1 to 64 characters"},
      {"directory = \"a\\u0000b\"\n", "p.toml:1:13: directory: has a NUL in it"},
      {"engine = \"\\u001b[2J\"\n", "p.toml:1:10: engine: '\\x1b[2J' is not one of auto, kvm, jit"},
  };
  for (const WrongFile& wrong : kWrongFiles) EXPECT_EQ(ErrorOf(wrong.text), wrong.error);
}

TEST(PolicyFile, WhatIsNoTomlIsSaidWithItsPlace) {
  EXPECT_THAT(ErrorOf("a = \n"), HasSubstr("p.toml:1:5: "));
  EXPECT_THAT(ErrorOf("a = 1\na = 2\n"), HasSubstr("p.toml:2:"));
  EXPECT_THAT(ErrorOf("[files"), HasSubstr("p.toml:1:"));
  EXPECT_THAT(ErrorOf("\xff = 1"), HasSubstr("p.toml:1:1: "));
  for (const char* const text : {"[\x01", "[[\x01", "[ =", "[a.\x01"}) EXPECT_THAT(ErrorOf(text), HasSubstr("p.toml:1:")) << text;
  EXPECT_EQ(ErrorOf(std::string(kMostPolicyBytes + 1, '#')), "p.toml: is larger than 1 MiB");
}

// The parser's tables have gaps for such characters; it must not see them.
TEST(PolicyFile, ACharacterThatIsNotAsciiStandsOnlyInStringsAndComments) {
  const std::string stray = ": a character that is not ASCII stands only in strings and comments";
  EXPECT_EQ(ErrorOf("\xd1\x8bs[#/usr"), "p.toml:1:1" + stray);
  EXPECT_EQ(ErrorOf("# \xd1\x8b\naudit = \xd1\x8b"), "p.toml:2:9" + stray);
  EXPECT_EQ(ErrorOf("directory = \"\\\"\" \xd1\x8b"), "p.toml:1:18" + stray);
  EXPECT_EQ(ErrorOf("directory = 'a\\' \xd1\x8b"), "p.toml:1:18" + stray);
  EXPECT_EQ(PolicyOf("directory = \"/\xd1\x8b\" # \xd1\x8b").directory->value, "/\xd1\x8b");
  EXPECT_EQ(PolicyOf("directory = '/\xd1\x8b'").directory->value, "/\xd1\x8b");
  EXPECT_EQ(PolicyOf("directory = \"\"\"/\"\xd1\x8b\n\"\"\"").directory->value, "/\"\xd1\x8b\n");
  EXPECT_EQ(PolicyOf("\xef\xbb\xbf" "audit = true").audit, "p.toml:1");
}

TEST(PolicyFile, AnOciProfileIsRulesAboutCalls) {
  Policy policy;
  std::vector<std::string> notes;
  const absl::Status status = AddOciText(policy, R"({"defaultAction":"SCMP_ACT_ERRNO",
      "defaultErrnoRet":38,"syscalls":[{"names":["read","chown32"],"action":"SCMP_ACT_ALLOW",
      "args":[{"index":0,"value":3,"op":"SCMP_CMP_LT"}]}]})", "p.json", &notes);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(policy.default_call->value, hostcalls::policy::CallAction::kError);
  EXPECT_EQ(policy.default_call_error, 38);
  ASSERT_EQ(policy.calls.size(), 1u);
  EXPECT_EQ(policy.calls[0].calls, "read");
  EXPECT_EQ(policy.calls[0].origin, "p.json: /syscalls/0");
  EXPECT_EQ(policy.calls[0].conditions.size(), 1u);
  EXPECT_THAT(notes, testing::ElementsAre(HasSubstr("chown32")));
  EXPECT_THAT(std::string(AddOciText(policy, "{}", "p.json").message()), HasSubstr("p.json: "));
}

TEST(PolicyFile, RulesStandInTheOrderOfTheFile) {
  const Policy policy = PolicyOf("[files]\nwrite = '/b'\nread = '/a'\n");
  ASSERT_EQ(policy.files.size(), 2u);
  EXPECT_EQ(policy.files[0].source, "/b");
  EXPECT_EQ(policy.files[1].source, "/a");
}

TEST(PolicyFile, ALaterFileAddsAndReplaces) {
  Policy policy =
      PolicyOf("audit = true\nnetwork = 'host'\n[limits]\npids = 3\n[files]\nread='/a'\n");
  ASSERT_TRUE(AddPolicyText(policy,
                            "audit = false\nnetwork = ['none', 'unix']\n[limits]\npids = 4\n"
                            "[files]\nread = '/b'\n",
                            "q.toml")
                  .ok());
  EXPECT_FALSE(policy.audit.has_value());
  EXPECT_EQ(policy.limits.tasks->value, 4u);
  EXPECT_EQ(policy.limits.tasks->origin, "q.toml:4");
  EXPECT_EQ(policy.files.size(), 2u);
  ASSERT_EQ(policy.network.size(), 2u) << "none takes back what was said before";
  EXPECT_EQ(policy.network[1].kind, NetworkKind::kUnix);
}

TEST(PolicyFile, AFileThatIsNotThereIsNamed) {
  Policy policy;
  EXPECT_EQ(AddPolicyFile(policy, "/nonexistent.toml").message(),
            "/nonexistent.toml: No such file or directory");
}

}  // namespace
}  // namespace dunebox::policy
