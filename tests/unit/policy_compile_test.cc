#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/explain.h"
#include "sandbox/policy/settings.h"

namespace dunebox::policy {
namespace {

using confinement::Mechanism;
using confinement::Mount;
using confinement::MountKind;
using hostcalls::policy::kAllRights;
using hostcalls::policy::kNoRights;
using hostcalls::policy::kReadFile;
using hostcalls::policy::kReadOnly;
using hostcalls::policy::kWriteFile;
using hostcalls::policy::PathRule;
using hostcalls::policy::Reach;
using hostcalls::policy::Rules;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A directory with a few files, and a policy without the default beneath it.
class PolicyCompile : public ::testing::Test {
 protected:
  PolicyCompile() {
    char name[] = "/tmp/policy_compile.XXXXXX";
    root_ = mkdtemp(name);
    for (const char* directory : {"/data/inner", "/home/me/bin", "/tools"}) {
      std::filesystem::create_directories(root_ + directory);
    }
    for (const char* program : {"/home/me/tool", "/home/me/bin/tool", "/tools/tool"}) {
      std::ofstream(root_ + program) << "#!/bin/sh\n";
    }
    std::filesystem::create_symlink("data", root_ + "/link");
    std::filesystem::create_symlink(root_ + "/tools/tool", root_ + "/home/me/bin/linked");
    surroundings_.directory = root_;
    surroundings_.environment = {"HOME=" + root_ + "/home/me", "LANG=C", "LC_ALL=C", "SECRET=1"};
    surroundings_.lookup = [](const std::string& host) -> absl::StatusOr<std::vector<std::string>> {
      if (host == "two.example") return std::vector<std::string>{"192.0.2.1", "2001:db8::1"};
      return absl::NotFoundError("no address known of '" + host + "'");
    };
    Say(Setting::kNoDefaults, "true");
  }
  ~PolicyCompile() override { std::filesystem::remove_all(root_); }

  void Say(Setting setting, const std::string& word) { Say(setting, std::vector{word}); }
  void Say(Setting setting, const std::vector<std::string>& words) {
    const absl::Status status = Set(policy_, setting, words, "test");
    ASSERT_TRUE(status.ok()) << status;
  }

  std::string Compiled() {
    session_ = {.program = program_};
    const absl::Status status = Compile(Effective(policy_), surroundings_, session_);
    return status.ok() ? "" : std::string(status.message());
  }

  // "rights path" of those below the directory, without it.
  std::vector<std::string> OwnPaths() const {
    std::vector<std::string> paths;
    for (const PathRule& rule : session_.rules.paths) {
      if (!rule.path.starts_with(root_) || rule.itself_alone) continue;
      paths.push_back(absl::StrCat(rule.rights, " ", rule.path.substr(root_.size())));
    }
    return paths;
  }

  const Mount* MountAt(const std::string& target) const {
    const auto& mounts = session_.plan.mounts;
    const auto mount = std::ranges::find(mounts, target, &Mount::target);
    return mount == mounts.end() ? nullptr : &*mount;
  }

  std::string root_;
  std::string program_;
  Surroundings surroundings_;
  Policy policy_;
  runtime::SessionOptions session_;
};

TEST_F(PolicyCompile, ATreeIsARuleAndAMount) {
  Say(Setting::kRead, root_ + "/data");
  Say(Setting::kWrite, root_ + "/data/inner");
  ASSERT_EQ(Compiled(), "");
  EXPECT_FALSE(session_.rules.allow_all);
  EXPECT_TRUE(session_.plan.confine);
  EXPECT_THAT(OwnPaths(), ElementsAre("9 /data", "15 /data/inner"));
  ASSERT_NE(MountAt(root_ + "/data"), nullptr);
  EXPECT_FALSE(MountAt(root_ + "/data")->writable);
  EXPECT_TRUE(MountAt(root_ + "/data")->executable);
  EXPECT_TRUE(MountAt(root_ + "/data/inner")->writable);
}

TEST_F(PolicyCompile, NamesAreRelativeToTheDirectoryOrTheHome) {
  Say(Setting::kRead, "data/../data/./inner");
  Say(Setting::kWrite, "~/bin");
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), ElementsAre("9 /data/inner", "15 /home/me/bin"));
}

TEST_F(PolicyCompile, ALinkLeadsToWhatItNames) {
  Say(Setting::kRead, "link");
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), ElementsAre("9 /data", "1 /link"));
  ASSERT_NE(MountAt(root_ + "/link"), nullptr);
  EXPECT_EQ(MountAt(root_ + "/link")->kind, MountKind::kSymlink);
  EXPECT_EQ(MountAt(root_ + "/link")->source, "data");
  EXPECT_EQ(MountAt(root_ + "/data")->source, root_ + "/data");
}

TEST_F(PolicyCompile, ATreeMayStandAtAnotherPlace) {
  Say(Setting::kRead, "link:/there");
  Say(Setting::kWriteBind, std::vector<std::string>{"data/inner", "/there/x/../in"});
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), IsEmpty());
  ASSERT_NE(MountAt("/there"), nullptr);
  EXPECT_EQ(MountAt("/there")->source, root_ + "/data");
  EXPECT_EQ(MountAt("/there/in")->source, root_ + "/data/inner");
}

TEST_F(PolicyCompile, TheLaterRuleForATargetCountsAndRepetitionsAreDropped) {
  Say(Setting::kWrite, "data");
  Say(Setting::kRead, "data");
  Say(Setting::kRead, "data/inner");
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), ElementsAre("9 /data"));
  EXPECT_EQ(MountAt(root_ + "/data/inner"), nullptr);
}

TEST_F(PolicyCompile, WhatLeadsToAMountComesBeforeIt) {
  Say(Setting::kTmpfs, "/t/b:1M");
  Say(Setting::kRead, "data:/t/b/c");
  Say(Setting::kTmpfs, "/t");
  ASSERT_EQ(Compiled(), "");
  std::vector<std::string> targets;
  for (const Mount& mount : session_.plan.mounts) targets.push_back(mount.target);
  EXPECT_THAT(targets, ElementsAre("/dev", "/proc", "/t", "/t/b", "/t/b/c"));
  EXPECT_EQ(MountAt("/t/b")->size, 1u << 20);
}

TEST_F(PolicyCompile, WhatAUserNamesHasToBeThere) {
  Say(Setting::kRead, "gone");
  EXPECT_EQ(Compiled(), "test: " + root_ + "/gone: No such file or directory");
}

TEST_F(PolicyCompile, NothingOfDevAsAWholeMayBeRead) {
  ASSERT_EQ(Compiled(), "");
  for (const PathRule& rule : session_.rules.paths) {
    if (rule.path == "/dev" || rule.path == "/") {
      EXPECT_TRUE(rule.itself_alone);
    }
  }
  EXPECT_EQ(session_.rules.RightsOn("/dev/mem").rights, kNoRights);
}

TEST_F(PolicyCompile, WhatMakesTerminalsIsTheViewsOwn) {
  Say(Setting::kDevice, "/dev/ptmx");
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(MountAt("/dev/ptmx"), nullptr);
  EXPECT_EQ(MountAt("/dev/pts/ptmx"), nullptr);
  EXPECT_EQ(session_.rules.RightsOn("/dev/ptmx").rights, kReadFile | kWriteFile);
}

TEST_F(PolicyCompile, WhatOnlyLeadsToTreesCanBeListedInAView) {
  Say(Setting::kRead, "data:/there/is/data");
  Say(Setting::kRead, "data");
  ASSERT_EQ(Compiled(), "");
  for (const char* way : {"/", "/dev", "/there", "/there/is", "/tmp"}) {
    EXPECT_EQ(session_.rules.RightsOn(way).rights, kReadFile) << way;
  }
  EXPECT_EQ(session_.rules.RightsOn("/there/other").rights, kNoRights);
  EXPECT_EQ(session_.rules.RightsOn("/tmp/other").rights, kNoRights);
  surroundings_.mount_namespace = false;
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.rules.RightsOn("/").rights, kNoRights) << "it is the host's";
  EXPECT_EQ(session_.rules.RightsOn("/dev").rights, kNoRights);
}

TEST_F(PolicyCompile, AHiddenTreeIsThereForNobody) {
  Say(Setting::kWrite, ".");
  Say(Setting::kHide, "link");
  Say(Setting::kRead, "data/inner");
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), ElementsAre("15 ", "0 /data", "9 /data/inner", "0 /link"));
  ASSERT_NE(MountAt(root_ + "/data"), nullptr);
  EXPECT_EQ(MountAt(root_ + "/data")->kind, MountKind::kHidden);
  EXPECT_EQ(MountAt(root_ + "/link"), nullptr);
  // The later rule for a place counts here, too.
  Say(Setting::kRead, "data");
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(MountAt(root_ + "/data")->kind, MountKind::kBind);
}

// "link" leads to "data" on the host, and to "tools" in the view.
TEST_F(PolicyCompile, WhatIsHiddenInATreeAtAnotherPlaceIsHiddenThere) {
  std::filesystem::create_directories(root_ + "/tools/inner");
  Say(Setting::kRead, root_ + "/tools:" + root_ + "/link");
  Say(Setting::kHide, root_ + "/link/inner");
  ASSERT_EQ(Compiled(), "");
  ASSERT_NE(MountAt(root_ + "/link/inner"), nullptr);
  EXPECT_EQ(MountAt(root_ + "/link/inner")->kind, MountKind::kHidden);
  EXPECT_THAT(OwnPaths(), Contains("0 /link/inner"));
}

TEST_F(PolicyCompile, WhatIsToBeHiddenHasToBeThereIfItsTreeIsShown) {
  Say(Setting::kHide, "/nowhere/at/all");
  ASSERT_EQ(Compiled(), "");
  Say(Setting::kRead, ".:/there");
  Say(Setting::kHide, "/there/data");
  ASSERT_EQ(Compiled(), "");
  Say(Setting::kHide, "/there/dta");
  EXPECT_EQ(Compiled(), "test: " + root_ + "/dta: No such file or directory");
}

TEST_F(PolicyCompile, TheProgramsDirectoryIsItsOwnUnlessItHoldsMuchElse) {
  program_ = "tools/tool";
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.program, root_ + "/tools/tool");
  EXPECT_THAT(OwnPaths(), ElementsAre("9 /tools"));
  Say(Setting::kTmpfs, "/tmp");
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), ElementsAre("9 /tools")) << "a private /tmp has no program in it";
  program_ = root_ + "/home/me/tool";
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), ElementsAre("9 /home/me/tool")) << "the home is not the program's";
  program_ = root_ + "/home/me/bin/linked";
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(OwnPaths(), Contains("9 /tools")) << "where the link leads";
}

TEST_F(PolicyCompile, ItStartsHereOnlyIfThisIsWhatItSees) {
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.directory, "/");
  Say(Setting::kTmpfs, "/tmp");
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.directory, "/") << "a private /tmp has not this in it";
  Say(Setting::kRead, ".");
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.directory, root_);
  Say(Setting::kChdir, "/usr");
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.directory, "/usr");
}

TEST_F(PolicyCompile, WithoutAViewOfItsOwnTheDefaultHasNoPrivateTrees) {
  policy_ = {};
  ASSERT_EQ(Compiled(), "");
  ASSERT_NE(MountAt("/tmp"), nullptr);
  surroundings_.mount_namespace = false;
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(MountAt("/tmp"), nullptr);
  for (const PathRule& rule : session_.rules.paths) {
    EXPECT_NE(rule.path, "/tmp");
    EXPECT_NE(rule.path, "/dev/shm");
  }
}

TEST_F(PolicyCompile, TheNetworkIsClosedUnlessSomethingIsSaid) {
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.rules.network.reach, Reach::kNone);
  EXPECT_TRUE(session_.plan.own_network);
  EXPECT_FALSE(session_.plan.any_connect_port || session_.plan.any_bind_port);
  EXPECT_FALSE(session_.rules.network.unix_sockets);
}

TEST_F(PolicyCompile, ANameStandsForItsAddresses) {
  Say(Setting::kNetwork, "tcp:two.example:443");
  Say(Setting::kNetwork, "tcp:10.0.0.0/8:80-81");
  Say(Setting::kNetwork, "listen:[::1]:8080");
  ASSERT_EQ(Compiled(), "");
  const auto& network = session_.rules.network;
  EXPECT_EQ(network.reach, Reach::kListed);
  ASSERT_EQ(network.outbound.size(), 3u);
  EXPECT_EQ(network.outbound[0].address[10], 0xff);
  EXPECT_EQ(network.outbound[0].address[12], 192);
  EXPECT_EQ(network.outbound[0].prefix, 128);
  EXPECT_EQ(network.outbound[1].address[0], 0x20);
  EXPECT_EQ(network.outbound[2].prefix, 104);
  ASSERT_EQ(network.listen.size(), 1u);
  EXPECT_EQ(network.listen[0].address[15], 1);
  EXPECT_FALSE(session_.plan.own_network);
  EXPECT_THAT(session_.plan.connect_ports, ElementsAre(80, 81, 443));
  EXPECT_THAT(session_.plan.bind_ports, ElementsAre(8080));
  Say(Setting::kNetwork, "tcp:one.example:80");
  EXPECT_EQ(Compiled(), "test: no address known of 'one.example'");
}

TEST_F(PolicyCompile, AnyPortIsLeftToTheFirstWall) {
  Say(Setting::kNetwork, "tcp:*:*");
  ASSERT_EQ(Compiled(), "");
  EXPECT_TRUE(session_.plan.any_connect_port);
  EXPECT_FALSE(session_.plan.any_bind_port);
  EXPECT_EQ(session_.rules.network.outbound[0].prefix, 0);
}

TEST_F(PolicyCompile, ALoopbackOfItsOwnNeedsANetworkOfItsOwn) {
  Say(Setting::kNetwork, "loopback");
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.rules.network.reach, Reach::kLoopback);
  EXPECT_THAT(session_.plan.required, Contains(Mechanism::kNetworkNamespace));
  Say(Setting::kNetwork, "listen:80");
  EXPECT_THAT(Compiled(), HasSubstr("a loopback of the session's own cannot be had together"));
}

TEST_F(PolicyCompile, TheHostsNetworkIsAllOfIt) {
  Say(Setting::kNetwork, "host");
  ASSERT_EQ(Compiled(), "");
  EXPECT_EQ(session_.rules.network.reach, Reach::kHost);
  EXPECT_TRUE(session_.rules.network.unix_sockets);
  EXPECT_FALSE(session_.plan.own_network);
}

TEST_F(PolicyCompile, AGroupOfCallsIsARuleForEach) {
  Say(Setting::kCall, "deny @network if arg0 == 2");
  Say(Setting::kCall, "allow socket");
  ASSERT_EQ(Compiled(), "");
  const auto& calls = session_.rules.calls;
  ASSERT_GT(calls.size(), 10u);
  EXPECT_TRUE(std::ranges::is_sorted(calls, {}, &hostcalls::policy::CallRule::number));
  EXPECT_EQ(calls[0].number, 41) << "socket";
  EXPECT_EQ(calls[0].action, hostcalls::policy::CallAction::kError);
  EXPECT_EQ(calls[0].conditions.size(), 1u);
  EXPECT_EQ(calls[1].number, 41);
  EXPECT_EQ(calls[1].action, hostcalls::policy::CallAction::kAllow);
}

TEST_F(PolicyCompile, TheEnvironmentIsWhatWasNamed) {
  policy_ = {};
  Say(Setting::kEnv, "MODE=test");
  Say(Setting::kEnv, "SEC*");
  ASSERT_EQ(Compiled(), "");
  EXPECT_TRUE(session_.environment.clear);
  EXPECT_THAT(session_.environment.entries,
              ElementsAre("PATH", "HOME=/", "LANG", "LANGUAGE", "LC_ALL", "TERM", "TZ", "MODE=test",
                          "SECRET"));
}

TEST_F(PolicyCompile, TheSecondWallIsEachMechanismOnce) {
  Say(Setting::kRequire, "wall2,cgroup,seccomp");
  ASSERT_EQ(Compiled(), "");
  EXPECT_THAT(session_.plan.required,
              ElementsAre(Mechanism::kSeccomp, Mechanism::kLandlock, Mechanism::kMountNamespace,
                          Mechanism::kPidNamespace, Mechanism::kNetworkNamespace,
                          Mechanism::kIpcNamespace, Mechanism::kUtsNamespace, Mechanism::kCgroup));
}

TEST_F(PolicyCompile, TheRestReachesTheSession) {
  Say(Setting::kOutput, "1M");
  Say(Setting::kUid, "0");
  Say(Setting::kGid, "7");
  Say(Setting::kHostname, "box");
  Say(Setting::kPids, "9");
  Say(Setting::kEngine, "kvm");
  Say(Setting::kDieWithParent, "true");
  ASSERT_EQ(Compiled(), "");
  EXPECT_FALSE(session_.rules.audit);
  EXPECT_EQ(session_.rules.most_output, 1u << 20);
  EXPECT_EQ(session_.plan.identity.uid, 0u);
  EXPECT_EQ(session_.plan.identity.gid, 7u);
  EXPECT_EQ(session_.plan.identity.hostname, "box");
  EXPECT_EQ(session_.limits.tasks, 9u);
  EXPECT_EQ(session_.engine, runtime::EngineChoice::kKvm);
  EXPECT_TRUE(session_.die_with_parent);
}

TEST_F(PolicyCompile, AnAuditHasNoViewOfItsOwn) {
  Say(Setting::kAudit, "true");
  ASSERT_EQ(Compiled(), "");
  EXPECT_TRUE(session_.rules.audit);
  EXPECT_FALSE(session_.plan.confine);
  EXPECT_TRUE(session_.plan.mounts.empty());
  Say(Setting::kHostname, "box");
  EXPECT_NE(Compiled(), "");
}

TEST_F(PolicyCompile, AnAuditCannotHaveASecondWallThatIsRequired) {
  Say(Setting::kAudit, "true");
  Say(Setting::kRequire, "landlock");
  EXPECT_EQ(Compiled(), "test: an audit has no second wall");
}

TEST_F(PolicyCompile, AllOfTheCallersRightsIsNoRuleAtAll) {
  policy_ = {};
  Say(Setting::kAllow, "all");
  Say(Setting::kPids, "9");
  ASSERT_EQ(Compiled(), "");
  EXPECT_TRUE(session_.rules.allow_all);
  EXPECT_FALSE(session_.plan.confine);
  EXPECT_THAT(session_.rules.paths, IsEmpty());
  EXPECT_THAT(session_.plan.mounts, IsEmpty());
  EXPECT_FALSE(session_.environment.clear);
  EXPECT_EQ(session_.limits.tasks, 9u);
  Say(Setting::kRead, "/usr");
  EXPECT_THAT(Compiled(), HasSubstr("but with no rule"));
}

TEST_F(PolicyCompile, ADefaultWritesNothingButWhatIsItsOwn) {
  policy_ = {};
  ASSERT_EQ(Compiled(), "");
  for (const PathRule& rule : session_.rules.paths) {
    const bool writable = (rule.rights & ~kReadOnly) != 0;
    EXPECT_TRUE(!writable || rule.path == "/tmp" || rule.path.starts_with("/dev/")) << rule.path;
  }
  std::vector<std::string> targets;
  for (const Mount& mount : session_.plan.mounts) targets.push_back(mount.target);
  EXPECT_THAT(targets, Contains("/usr"));
  EXPECT_THAT(targets, Not(Contains("/etc/shadow")));
  EXPECT_THAT(targets, Not(Contains("/etc")));
  EXPECT_THAT(targets, Not(Contains("/etc/resolv.conf")));
}

TEST_F(PolicyCompile, EachRuleSaysWhereItIsFrom) {
  Say(Setting::kRead, "data");
  ASSERT_EQ(Compiled(), "");
  const auto& rules = session_.rules;
  EXPECT_EQ(rules.origins.at(0), "default");
  const auto rule = std::ranges::find(rules.paths, root_ + "/data", &PathRule::path);
  ASSERT_NE(rule, rules.paths.end());
  EXPECT_EQ(rules.origins.at(rule->origin), "test");
}

TEST_F(PolicyCompile, TheExplanationIsInPlainWords) {
  surroundings_.directory = "/";
  Say(Setting::kRead, root_ + "/data:/there");
  Say(Setting::kTmpfs, "/scratch:64M");
  Say(Setting::kNetwork, "tcp:two.example:443");
  Say(Setting::kCall, "deny=ENOSYS ioctl if arg1 & 0x4 == 0x4 and arg2 > 3");
  Say(Setting::kEnv, "A=1");
  Say(Setting::kEnv, "LANG");
  Say(Setting::kTime, "10s");
  Say(Setting::kUid, "1000");
  Say(Setting::kRequire, "landlock");
  ASSERT_EQ(Compiled(), "");
  const std::string text = FormatStatements(Explain(Effective(policy_), session_));
  EXPECT_EQ(text, R"(files:
  read: /proc [default]
  read, write: /dev/full, /dev/null, /dev/ptmx, /dev/pts, /dev/random, /dev/tty, /dev/urandom,
      /dev/zero [default]
  read, write, create and remove: /dev/shm [default]
  read, execute: /there (which is )" +
                      root_ + R"(/data) [test]
  read, write, create and remove, execute: /scratch (empty at first, in memory, 64M at most) [test]
  list what leads to these: /, /dev [default]
  nothing else
network:
  connect to two.example, port 443 [test]
system calls:
  deny=ENOSYS ioctl if arg1 & 0x4 == 0x4 and arg2 > 0x3 [test]
  allow all others, within the rules above and what Dunebox carries out at all [default]
identity:
  user 1000 [test]
processes:
  those of the session alone can be seen and signalled [default]
directory:
  it starts in / [default]
environment:
  the caller's
  passed: LANG [test]
  set: A=1 [test]
limits:
  time 10s [test]
required:
  landlock, else it does not start [test]
)");
}

}  // namespace
}  // namespace dunebox::policy
