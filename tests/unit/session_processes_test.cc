#include "hostcalls/services/session_processes.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <array>
#include <optional>
#include <string>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

// A process that does nothing until it is killed.
pid_t ForkIdle() {
  const pid_t id = fork();
  if (id != 0) return id;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) pause();
}

// A session of three outside of the test's process: two of its root's, and the child of one that
// is gone. And a stranger.
class SessionProcessesTest : public ServicesTest {
 protected:
  SessionProcessesTest() : stranger_(ForkIdle()) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    root_ = fork();
    if (root_ == 0) BecomeRoot(ends[1]);
    close(ends[1]);
    EXPECT_EQ(read(ends[0], members_.data(), sizeof(members_)), ssize_t{sizeof(members_)});
    close(ends[0]);
    rules_.allow_all = false;
    guard_.emplace(rules_, nullptr);
    thread_.guard = &*guard_;
    thread_.session_root = root_;
  }
  ~SessionProcessesTest() override {
    for (const pid_t member : members_) kill(member, SIGKILL);
    for (const pid_t child : {root_, stranger_}) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
  }

  [[noreturn]] static void BecomeRoot(int to) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const pid_t first = ForkIdle();
    const pid_t second = ForkIdle();
    int ends[2];
    if (pipe(ends) != 0) _exit(1);
    const pid_t parent = fork();
    if (parent == 0) {
      const pid_t orphan = fork();
      if (orphan != 0) _exit(write(ends[1], &orphan, sizeof(orphan)) < 0);
      for (;;) pause();
    }
    waitpid(parent, nullptr, 0);
    pid_t orphan = 0;
    if (read(ends[0], &orphan, sizeof(orphan)) < 0) _exit(1);
    const pid_t all[] = {first, second, orphan};
    if (write(to, all, sizeof(all)) < 0) _exit(1);
    for (;;) pause();
  }

  // Still there, and not a zombie.
  static bool Lives(pid_t process) {
    const std::string text = [&] {
      const int fd = open(("/proc/" + std::to_string(process) + "/stat").c_str(), O_RDONLY);
      std::string read = ReadAll(fd);
      close(fd);
      return read;
    }();
    const std::size_t name = text.rfind(") ");
    return name != std::string::npos && text[name + 2] != 'Z' && text[name + 2] != 'X';
  }
  static bool IsGoneSoon(pid_t process) {
    for (int i = 0; i < 2'000 && Lives(process); ++i) usleep(5'000);
    return !Lives(process);
  }

  pid_t stranger_;
  pid_t root_ = 0;
  std::array<pid_t, 3> members_{};
  policy::Rules rules_;
  std::optional<policy::Guard> guard_;
};

constexpr SignalToSend kProbe{.signal = 0};
constexpr SignalToSend kKill{.signal = SIGKILL};

TEST_F(SessionProcessesTest, MembersAreReachedAndStrangersAreNot) {
  for (const pid_t member : members_) {
    EXPECT_TRUE(SignalProcess(thread_, member, kProbe).ok()) << member;
    EXPECT_TRUE(SignalThread(thread_, member, member, kProbe).ok()) << member;
    EXPECT_TRUE(RequireSessionProcess(thread_, "", member).ok()) << member;
  }
  for (const pid_t outside : {stranger_, root_, getppid(), 1}) {
    EXPECT_EQ(SignalProcess(thread_, outside, kKill).error(), EPERM) << outside;
    EXPECT_EQ(SignalThread(thread_, outside, outside, kKill).error(), EPERM) << outside;
    EXPECT_EQ(SignalThread(thread_, 0, outside, kKill).error(), EPERM) << outside;
    EXPECT_EQ(RequireSessionProcess(thread_, "", outside).error(), EPERM) << outside;
  }
  EXPECT_TRUE(Lives(stranger_));
  EXPECT_TRUE(Lives(root_));
}

TEST_F(SessionProcessesTest, WhoIsGoneIsNobody) {
  const pid_t gone = ForkIdle();
  kill(gone, SIGKILL);
  waitpid(gone, nullptr, 0);
  EXPECT_EQ(SignalProcess(thread_, gone, kProbe).error(), ESRCH);
  EXPECT_EQ(SignalThread(thread_, gone, gone, kProbe).error(), ESRCH);
  EXPECT_EQ(RequireSessionProcess(thread_, "", gone).error(), ESRCH);
}

TEST_F(SessionProcessesTest, AThreadIsFoundInItsProcessOnly) {
  EXPECT_EQ(SignalThread(thread_, members_[0], members_[1], kProbe).error(), ESRCH);
}

TEST_F(SessionProcessesTest, AllOfTheSessionIsNobodyElse) {
  EXPECT_TRUE(SignalSession(thread_, std::nullopt, kKill).ok());
  for (const pid_t member : members_) EXPECT_TRUE(IsGoneSoon(member));
  EXPECT_TRUE(Lives(stranger_));
  EXPECT_TRUE(Lives(root_));
}

TEST_F(SessionProcessesTest, AGroupIsItsMembersOfTheSession) {
  // All are in the test's own group, and one leaves it.
  ASSERT_EQ(SignalSession(thread_, members_[0], kKill).error(), ESRCH);
  EXPECT_TRUE(SignalSession(thread_, getpgrp(), kKill).ok());
  for (const pid_t member : members_) EXPECT_TRUE(IsGoneSoon(member));
  EXPECT_TRUE(Lives(stranger_));
  EXPECT_TRUE(Lives(root_));
}

TEST_F(SessionProcessesTest, ADescriptorOfAStrangerIsNoWayToHim) {
  const auto held = [](pid_t process) {
    return static_cast<int>(syscall(SYS_pidfd_open, process, 0));
  };
  const int stranger = held(stranger_);
  const int member = held(members_[0]);
  EXPECT_EQ(SignalHeld(thread_, stranger, kKill, 0).error(), EPERM);
  EXPECT_EQ(SignalHeld(thread_, member, kKill, 4).error(), EINVAL);  // to its process group
  EXPECT_TRUE(SignalHeld(thread_, member, kKill, 0).ok());
  EXPECT_TRUE(IsGoneSoon(members_[0]));
  EXPECT_EQ(SignalHeld(thread_, 999, kKill, 0).error(), EBADF);
  const int directory = open(("/proc/" + std::to_string(stranger_)).c_str(), O_RDONLY);
  EXPECT_EQ(SignalHeld(thread_, directory, kKill, 0).error(), EBADF);
  EXPECT_TRUE(Lives(stranger_));
  for (const int fd : {stranger, member, directory}) close(fd);
}

TEST_F(SessionProcessesTest, CallsAboutProcessesAskFirst) {
  const std::uint64_t mask = thread_.Allocate(128);
  EXPECT_EQ(Call(SYS_sched_getaffinity, stranger_, 128, mask), -EPERM);
  EXPECT_GT(Call(SYS_sched_getaffinity, members_[0], 128, mask), 0);
  EXPECT_GT(Call(SYS_sched_getaffinity, 0, 128, mask), 0);
  EXPECT_EQ(Call(SYS_pidfd_open, stranger_, 0), -EPERM);
  EXPECT_EQ(Call(SYS_getpgid, stranger_), -EPERM);
  EXPECT_EQ(Call(SYS_setpriority, PRIO_PROCESS, stranger_, 5), -EPERM);
  EXPECT_EQ(Call(SYS_setpriority, PRIO_PROCESS, members_[0], 5), 0);
  EXPECT_EQ(Call(SYS_setpriority, PRIO_PGRP, 0, 5), -EPERM);
  EXPECT_EQ(Call(SYS_setpriority, PRIO_USER, 0, 5), -EPERM);
  EXPECT_EQ(Call(SYS_ioprio_get, 2, 0), -EPERM);
  EXPECT_EQ(Call(SYS_prlimit64, stranger_, RLIMIT_CPU, 0, thread_.Allocate(16)), -EPERM);
  EXPECT_EQ(Call(SYS_prlimit64, members_[0], RLIMIT_CPU, 0, thread_.Allocate(16)), 0);
}

TEST_F(SessionProcessesTest, NobodyElseGetsSignalsAboutADescriptor) {
  const std::int64_t fd = thread_.Open(MakeFile("f", ""), O_RDONLY);
  EXPECT_EQ(Call(SYS_fcntl, fd, F_SETOWN, stranger_), -EPERM);
  EXPECT_EQ(Call(SYS_fcntl, fd, F_SETOWN, -stranger_), -EPERM);
  EXPECT_EQ(Call(SYS_fcntl, fd, F_SETOWN_EX, thread_.Put(f_owner_ex{F_OWNER_PID, stranger_})),
            -EPERM);
  EXPECT_EQ(Call(SYS_fcntl, fd, F_SETOWN_EX, thread_.Put(f_owner_ex{F_OWNER_TID, stranger_})),
            -EPERM);
  EXPECT_EQ(Call(SYS_fcntl, fd, F_SETLEASE, F_RDLCK), -EACCES);
}

TEST_F(SessionProcessesTest, WithTheWordOfThePolicyEverybodyIsReached) {
  rules_.signal_outside = true;
  EXPECT_GT(Call(SYS_sched_getaffinity, stranger_, 128, thread_.Allocate(128)), 0);
  EXPECT_TRUE(RequireSessionProcess(thread_, "", stranger_).ok());
}

TEST_F(SessionProcessesTest, AnAuditOnlyNotes) {
  rules_.audit = true;
  EXPECT_TRUE(SignalProcess(thread_, stranger_, kKill).ok());
  EXPECT_TRUE(IsGoneSoon(stranger_));
}

}  // namespace
}  // namespace dunebox::hostcalls
