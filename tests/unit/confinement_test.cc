// Wall 2's namespaces, without a guest: the view is made in children, so that this process stays as
// it is.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "runtime/confinement/identity.h"
#include "runtime/confinement/mechanisms.h"
#include "runtime/confinement/mount_view.h"
#include "runtime/confinement/namespaces.h"

namespace dunebox::confinement {
namespace {

using ::testing::HasSubstr;

// What a child writes to its end of a pipe. It is killed with all that it started.
std::string InChild(const std::function<std::string()>& work) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    const std::string text = work();
    _exit(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char bytes[4096];
  for (ssize_t size; (size = read(ends[0], bytes, sizeof(bytes))) > 0;) {
    text.append(bytes, static_cast<std::size_t>(size));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return text;
}

// What `look` finds as a program of a session with this plan; the message if there is no session.
std::string InSession(const Plan& plan, const std::function<std::string()>& look) {
  return InChild([&]() -> std::string {
    absl::StatusOr<Namespaces> namespaces = Namespaces::Create(plan);
    if (!namespaces.ok()) return "error: " + std::string(namespaces.status().message());
    return InChild([&]() -> std::string {
      const absl::Status status = namespaces->Enter();
      return status.ok() ? look() : "error: " + std::string(status.message());
    });
  });
}

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

bool Exists(const char* path) { return access(path, F_OK) == 0; }

std::string FlagsOf(const char* path) {
  struct statvfs info {};
  if (statvfs(path, &info) != 0) return "absent";
  std::string flags;
  if ((info.f_flag & ST_RDONLY) != 0) flags += "ro ";
  if ((info.f_flag & ST_NOSUID) != 0) flags += "nosuid ";
  if ((info.f_flag & ST_NODEV) != 0) flags += "nodev ";
  if ((info.f_flag & ST_NOEXEC) != 0) flags += "noexec ";
  return flags;
}

class ConfinementTest : public ::testing::Test {
 protected:
  ConfinementTest() {
    char name[] = "/tmp/dunebox-confinement.XXXXXX";
    directory_ = mkdtemp(name);
    std::ofstream(directory_ + "/file") << "text";
    mkdir((directory_ + "/tree").c_str(), 0755);
    std::ofstream(directory_ + "/tree/leaf") << "leaf";
  }
  ~ConfinementTest() override {
    for (const char* name : {"/tree/leaf", "/file", "/link"}) unlink((directory_ + name).c_str());
    rmdir((directory_ + "/tree").c_str());
    rmdir(directory_.c_str());
  }
  void SetUp() override {
    const absl::StatusOr<MechanismSet> possible = ProbeNamespaces();
    if (!possible.ok()) GTEST_SKIP() << possible.status().message();
  }
  Plan Show(Mount mount) const {
    return {.confine = true, .mounts = {std::move(mount)}, .own_network = false};
  }
  std::string directory_;
};

TEST_F(ConfinementTest, NothingIsDoneWithoutConfine) {
  EXPECT_EQ(InSession({.confine = false, .mounts = {{.kind = MountKind::kTmpfs, .target = "/x"}}},
                      [] { return std::string(Exists("/x") ? "x" : "no x"); }),
            "no x");
}

TEST_F(ConfinementTest, ABindIsThereWithTheFlagsOfThePlan) {
  const Plan plan = Show({.source = directory_ + "/tree", .target = "/a/b", .executable = false});
  EXPECT_EQ(InSession(plan, [] { return ReadAll("/a/b/leaf") + ": " + FlagsOf("/a/b"); }),
            "leaf: ro nosuid nodev noexec ");
  Plan writable = plan;
  writable.mounts[0].writable = writable.mounts[0].executable = true;
  EXPECT_EQ(InSession(writable, [] { return FlagsOf("/a/b"); }), "nosuid nodev ");
}

TEST_F(ConfinementTest, NothingElseOfTheHostIsThere) {
  EXPECT_EQ(InSession(Show({.source = directory_ + "/file", .target = "/file"}),
                      [&] {
                        return ReadAll("/file") + (Exists("/usr") ? " usr" : "") +
                               (Exists(directory_.c_str()) ? " directory" : "") + " " +
                               FlagsOf("/");
                      }),
            "text ro nosuid nodev noexec ");
}

TEST_F(ConfinementTest, ASourceIsNotLookedUpThroughLinks) {
  ASSERT_EQ(symlink("tree", (directory_ + "/link").c_str()), 0);
  EXPECT_THAT(InSession(Show({.source = directory_ + "/link/leaf", .target = "/leaf"}),
                        [] { return std::string("entered"); }),
              HasSubstr("Too many levels of symbolic links"));
}

TEST_F(ConfinementTest, AMissingSourceIsAnErrorWithItsName) {
  EXPECT_THAT(InSession(Show({.source = "/no/such/tree", .target = "/x"}),
                        [] { return std::string("entered"); }),
              HasSubstr("cannot show /no/such/tree at /x: cannot open it: No such file"));
}

TEST_F(ConfinementTest, LinksOfThePlanAreLinks) {
  Plan plan = Show({.source = directory_ + "/tree", .target = "/tree"});
  plan.mounts.push_back({.kind = MountKind::kSymlink, .source = "tree", .target = "/link"});
  EXPECT_EQ(InSession(plan,
                      [] {
                        char text[64] = {};
                        (void)!readlink("/link", text, sizeof(text) - 1);
                        return text + (" " + ReadAll("/link/leaf"));
                      }),
            "tree leaf");
}

TEST_F(ConfinementTest, APlaceIsNotMadeInATreeOfTheHosts) {
  Plan plan = Show({.source = directory_ + "/tree", .target = "/tree", .writable = true});
  plan.mounts.push_back({.kind = MountKind::kTmpfs, .target = "/tree/new"});
  EXPECT_THAT(InSession(plan, [] { return std::string("entered"); }),
              HasSubstr("make it there first"));
  EXPECT_FALSE(Exists((directory_ + "/tree/new").c_str()));
}

TEST_F(ConfinementTest, ATmpfsHasItsSize) {
  EXPECT_EQ(InSession(Show({.kind = MountKind::kTmpfs, .target = "/t", .size = 1 << 20}),
                      [] {
                        struct statvfs info {};
                        statvfs("/t", &info);
                        return std::to_string(info.f_blocks * info.f_frsize);
                      }),
            std::to_string(1 << 20));
}

TEST_F(ConfinementTest, ProcIsThereWithoutBeingAskedForAndShowsTheSessionOnly) {
  EXPECT_EQ(InSession({.confine = true, .own_network = false},
                      [] {
                        return std::to_string(getpid()) + (Exists("/proc/1") ? " first" : "") +
                               (Exists("/proc/3") ? " third" : "") + " " + FlagsOf("/proc/sys");
                      }),
            "2 first ro nosuid nodev noexec ");
}

TEST_F(ConfinementTest, TheProgramIsWhoThePlanSaysAndMayNotMount) {
  Plan plan{.confine = true, .own_network = false};
  plan.identity = {.uid = 77, .gid = 88, .hostname = "elsewhere"};
  EXPECT_EQ(InSession(plan,
                      [] {
                        char name[64] = {};
                        gethostname(name, sizeof(name) - 1);
                        const bool mounts = mount("none", "/proc", "tmpfs", 0, nullptr) == 0;
                        return std::to_string(getuid()) + " " + std::to_string(getgid()) + " " +
                               name + (mounts ? " mounts" : "");
                      }),
            "77 88 elsewhere");
}

TEST_F(ConfinementTest, TheDevicesAreThereAndNoOthers) {
  EXPECT_EQ(InSession(Show({.kind = MountKind::kDevices, .target = "/dev"}),
                      [] {
                        std::string text;
                        for (const char* name : {"/dev/null", "/dev/pts/ptmx", "/dev/shm"}) {
                          text += Exists(name) ? "yes " : "no ";
                        }
                        const int null = open("/dev/null", O_RDWR);
                        return text + (null >= 0 ? "opens " : "") +
                               (Exists("/dev/kvm") ? "kvm " : "") + FlagsOf("/dev");
                      }),
            "yes yes yes opens ro nosuid nodev noexec ");
}

TEST(MountView, ATreeWithinAnotherIsNotMountedAgain) {
  const std::vector<Mount> before = {{.source = "/usr", .target = "/usr"},
                                     {.kind = MountKind::kTmpfs, .target = "/usr/tmp"},
                                     {.source = "/a", .target = "/b"}};
  const auto is_shown = [&](const Mount& mount) { return IsShownAlready(before, mount); };
  EXPECT_TRUE(is_shown({.source = "/usr/bin", .target = "/usr/bin"}));
  EXPECT_FALSE(is_shown({.source = "/usr/bin", .target = "/usr/bin", .writable = true}));
  EXPECT_FALSE(is_shown({.source = "/usr/bin", .target = "/usr/bin", .executable = false}));
  EXPECT_FALSE(is_shown({.source = "/usr/lib", .target = "/usr/bin"}));
  EXPECT_FALSE(is_shown({.source = "/usr/tmp/x", .target = "/usr/tmp/x"}));
  EXPECT_FALSE(is_shown({.source = "/usr2", .target = "/usr2"}));
  EXPECT_FALSE(is_shown({.source = "/b/c", .target = "/b/c"}));
  EXPECT_FALSE(is_shown({.kind = MountKind::kTmpfs, .target = "/usr/x"}));
}

TEST(Mechanisms, WhatAPlanCannotDoWithoutIsNamed) {
  const absl::Status reason = absl::UnavailableError("not today");
  Plan plan{.confine = true, .mounts = {{.source = "/usr", .target = "/usr"}}};
  EXPECT_TRUE(LeaveOut(plan, Mechanism::kMountNamespace, reason).ok());
  plan.mounts.push_back({.source = "/a", .target = "/b"});
  EXPECT_THAT(std::string(LeaveOut(plan, Mechanism::kMountNamespace, reason).message()),
              HasSubstr("a mount namespace is needed to show /a at /b, and cannot be had here: not "
                        "today"));
  EXPECT_TRUE(LeaveOut(plan, Mechanism::kUtsNamespace, reason).ok());
  plan.identity.hostname = "h";
  EXPECT_FALSE(LeaveOut(plan, Mechanism::kUtsNamespace, reason).ok());
  EXPECT_TRUE(LeaveOut(plan, Mechanism::kUserNamespace, reason).ok());
  plan.identity.uid = getuid() + 1;
  EXPECT_FALSE(LeaveOut(plan, Mechanism::kUserNamespace, reason).ok());
  EXPECT_TRUE(LeaveOut(plan, Mechanism::kNetworkNamespace, reason).ok());
  plan.required = {Mechanism::kNetworkNamespace};
  EXPECT_FALSE(LeaveOut(plan, Mechanism::kNetworkNamespace, reason).ok());
}

}  // namespace
}  // namespace dunebox::confinement
