// Where a control group of a session's can be, and one that is really made where this machine lets
// us.
#include "runtime/confinement/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dunebox::confinement {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr char kOneHierarchy[] =
    "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
    "31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

TEST(Cgroup, ThePlacesAreTheOwnGroupAndThoseAboveIt) {
  EXPECT_THAT(CgroupPlaces("0::/user.slice/a.scope\n", kOneHierarchy),
              ElementsAre("/sys/fs/cgroup/user.slice/a.scope", "/sys/fs/cgroup/user.slice",
                          "/sys/fs/cgroup"));
  EXPECT_THAT(CgroupPlaces("9:pids:/x\n0::/\n", kOneHierarchy), ElementsAre("/sys/fs/cgroup"));
}

TEST(Cgroup, OnlyAPartOfTheHierarchyMayBeMounted) {
  constexpr char kPart[] = "31 23 0:28 /box /cg rw - cgroup2 cgroup2 rw\n";
  EXPECT_THAT(CgroupPlaces("0::/box/inner\n", kPart), ElementsAre("/cg/inner", "/cg"));
  EXPECT_THAT(CgroupPlaces("0::/elsewhere\n", kPart), IsEmpty());
}

TEST(Cgroup, WithoutTheUnifiedHierarchyThereIsNoPlace) {
  EXPECT_THAT(CgroupPlaces("9:pids:/x\n", kOneHierarchy), IsEmpty());
  EXPECT_THAT(CgroupPlaces("0::/\n", "34 31 0:31 / /cg rw - cgroup cgroup rw,cpu\n"), IsEmpty());
  EXPECT_THAT(CgroupPlaces("0::/../outside\n", kOneHierarchy), IsEmpty());
  EXPECT_THAT(CgroupPlaces("", ""), IsEmpty());
}

TEST(Cgroup, OfDeadMakersOnlyAreStale) {
  // A group is a directory, to whoever removes it. That of the process which had our number is stale, too.
  char place[] = "/tmp/dunebox-cgroup-test.XXXXXX";
  ASSERT_NE(mkdtemp(place), nullptr);
  const std::filesystem::path parent(place);
  const pid_t dead = fork();
  if (dead == 0) _exit(0);
  waitpid(dead, nullptr, 0);
  const std::string of_dead = absl::StrCat("dunebox-", dead), ours = absl::StrCat("dunebox-", getpid());
  const std::string of_parent = absl::StrCat("dunebox-", getppid());
  for (const std::string& name : {of_dead, ours, of_parent, std::string("dunebox-x"), std::string("other")}) {
    std::filesystem::create_directory(parent / name);
  }
  RemoveStaleCgroups(place);
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(parent)) left.push_back(entry.path().filename());
  EXPECT_THAT(left, UnorderedElementsAre(of_parent, "dunebox-x", "other"));
  std::filesystem::remove_all(parent);
}

TEST(Cgroup, ValuesAreFoundByTheirWholeName) {
  constexpr char kStat[] = "usage_usec 1500\nuser_usec 1000\nbad x\n";
  EXPECT_EQ(ValueIn(kStat, "usage_usec"), 1500u);
  EXPECT_EQ(ValueIn(kStat, "usage"), std::nullopt);
  EXPECT_EQ(ValueIn(kStat, "bad"), std::nullopt);
}

TEST(Cgroup, WhoEntersIsCountedAndEndsWithIt) {
  absl::StatusOr<Cgroup> group = Cgroup::Create({});
  if (!group.ok()) GTEST_SKIP() << group.status().message();
  int entered[2];
  ASSERT_EQ(pipe(entered), 0);
  const pid_t busy = fork();
  if (busy == 0) {
    if (!group->Enter().ok() || write(entered[1], "", 1) != 1) _exit(1);
    for (;;) {
    }
  }
  close(entered[1]);
  char byte;
  ASSERT_EQ(read(entered[0], &byte, 1), 1);
  close(entered[0]);
  // Whoever was in the group before has used some, too.
  const auto begin = group->CpuTime().count();
  while (group->CpuTime().count() < begin + 20) usleep(10'000);
  EXPECT_FALSE(group->RanOutOfMemory());
  group->Remove();
  int status = 0;
  waitpid(busy, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  group->Remove();
  EXPECT_EQ(group->CpuTime().count(), 0) << "it is still there";
}

TEST(Cgroup, AMemoryLimitEndsWhoGoesBeyondIt) {
  absl::StatusOr<Cgroup> group = Cgroup::Create({.memory = 16 << 20, .tasks = 8});
  if (!group.ok()) GTEST_SKIP() << group.status().message();
  const pid_t hog = fork();
  if (hog == 0) {
    if (!group->Enter().ok()) _exit(1);
    const std::size_t size = kRuntimeMemory + (64 << 20);
    std::string memory(size, 'x');
    _exit(memory[size / 2] == 'x' ? 0 : 2);
  }
  int status = 0;
  waitpid(hog, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_TRUE(group->RanOutOfMemory());
  group->Remove();
}

}  // namespace
}  // namespace dunebox::confinement
