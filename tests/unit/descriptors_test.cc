#include <linux/close_range.h>
#include <sys/wait.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "hostcalls/services/limit_notes.h"
#include "hostcalls/services/reserved_fd.h"
#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

// ---- The reserved range -------------------------------------------------------------------------

TEST(ReservedDescriptors, LieAboveTheGuests) {
  const auto choose = [](rlim_t hard) {
    return ChooseReservedDescriptors({.rlim_cur = 0, .rlim_max = hard});
  };
  EXPECT_EQ(choose(RLIM_INFINITY).first, 4096);
  EXPECT_EQ(choose(1'048'576).first, 4096);
  EXPECT_EQ(choose(1024).first, 768);
  EXPECT_EQ(choose(1024).count, 256);
  // Who wants more has them as far as the hard limit goes.
  EXPECT_EQ(ChooseReservedDescriptors({.rlim_cur = 0, .rlim_max = 1'048'576}, 20'000).first, 20'000);
  EXPECT_EQ(ChooseReservedDescriptors({.rlim_cur = 0, .rlim_max = 1'048'576}, 64).first, 4096);
  EXPECT_EQ(ChooseReservedDescriptors({.rlim_cur = 0, .rlim_max = 20'000}, 20'000).first, 15'904);
  for (const rlim_t hard : {rlim_t{64}, rlim_t{1000}, rlim_t{4096}, rlim_t{8192}, rlim_t{20000}}) {
    const ReservedDescriptors range = choose(hard);
    EXPECT_LE(static_cast<rlim_t>(range.first + range.count), hard);
    EXPECT_GT(range.count, kFixedSlots);
  }
}

class DescriptorsTest : public ServicesTest {
 protected:
  static bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }
  VirtualLimits& limits() { return TestGuest::Get().limits; }
  rlim_t HostSoftLimit() {
    rlimit host{};
    getrlimit(RLIMIT_NOFILE, &host);
    return host.rlim_cur;
  }
};

TEST_F(DescriptorsTest, ACopyInTheRangeLeavesTheGuestsLimitAsItWas) {
  const rlim_t before = HostSoftLimit();
  {
    absl::StatusOr<ReservedFd> copy = limits().DuplicateToReserved(0);
    ASSERT_TRUE(copy.ok());
    EXPECT_TRUE(limits().reserved().Contains(copy->get()));
    EXPECT_EQ(fcntl(copy->get(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(HostSoftLimit(), before);
    EXPECT_LE(before, static_cast<rlim_t>(FirstReserved()));
  }
  EXPECT_FALSE(limits().DuplicateToReserved(999).ok());
  EXPECT_EQ(HostSoftLimit(), before);
}

TEST_F(DescriptorsTest, CopiesFromManyThreadsAreAllDifferent) {
  std::vector<std::vector<ReservedFd>> copies(4);
  std::vector<std::thread> threads;
  threads.reserve(copies.size());
  for (auto& mine : copies) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) mine.push_back(*limits().Reserve(0));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<bool> seen(65536);
  for (const auto& mine : copies) {
    for (const ReservedFd& fd : mine) {
      EXPECT_FALSE(seen[fd.get()]);
      seen[fd.get()] = true;
    }
  }
  EXPECT_LE(HostSoftLimit(), static_cast<rlim_t>(FirstReserved()));
}

TEST_F(DescriptorsTest, AFullRangeIsAnErrorAndNotTheEnd) {
  std::vector<ReservedFd> all;
  for (;;) {
    CopyResult<ReservedFd> fd = limits().Reserve(0);
    if (!fd.ok()) {
      EXPECT_EQ(fd.error().value, EMFILE);
      break;
    }
    all.push_back(*std::move(fd));
  }
  EXPECT_EQ(static_cast<int>(all.size()), limits().reserved().count - kFixedSlots);
  MakeFile("file", "");
  EXPECT_EQ(thread_.Open("file", O_RDONLY), -EMFILE);
}

TEST_F(DescriptorsTest, NoCallTakesAReservedNumber) {
  const int reserved = FirstReserved();
  EXPECT_EQ(Call(SYS_close, reserved), -EBADF);
  EXPECT_EQ(Call(SYS_dup, reserved), -EBADF);
  EXPECT_EQ(Call(SYS_dup2, 0, reserved), -EBADF);
  EXPECT_EQ(Call(SYS_dup2, 0, reserved + 100), -EBADF);
  EXPECT_EQ(Call(SYS_dup3, 0, reserved + 100, 0), -EBADF);
  EXPECT_EQ(Call(SYS_fcntl, reserved, F_GETFD), -EBADF);
  EXPECT_EQ(Call(SYS_fcntl, 0, 1027 /* F_DUPFD_QUERY */, reserved), -EBADF);
  EXPECT_EQ(Call(SYS_ioctl, reserved, 0x5451), -EBADF);
  EXPECT_EQ(Call(SYS_ioctl, 0, 0x40049409 /* FICLONE */, reserved), -EBADF);
  EXPECT_TRUE(IsOpen(reserved));
}

TEST_F(DescriptorsTest, FcntlCopiesStayBelowTheRange) {
  const std::int64_t copy = Call(SYS_fcntl, 0, F_DUPFD_CLOEXEC, 100);
  EXPECT_GE(copy, 100);
  EXPECT_EQ(fcntl(static_cast<int>(copy), F_GETFD), FD_CLOEXEC);
  close(static_cast<int>(copy));
  for (const std::int64_t lowest :
       {std::int64_t{FirstReserved()}, std::int64_t{FirstReserved()} + 50, std::int64_t{1} << 30,
        std::int64_t{-1}}) {
    EXPECT_EQ(Call(SYS_fcntl, 0, F_DUPFD, lowest), -EINVAL) << lowest;
    EXPECT_EQ(Call(SYS_fcntl, 0, F_DUPFD_CLOEXEC, lowest), -EINVAL) << lowest;
  }
}

// ---- fcntl --------------------------------------------------------------------------------------

TEST_F(DescriptorsTest, FcntlLocksAreCopied) {
  const std::string path = MakeFile("file", "text");
  const std::int64_t fd = thread_.Open(path, O_RDWR);
  const struct flock lock { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 2 };
  EXPECT_EQ(Call(SYS_fcntl, fd, F_OFD_SETLK, thread_.Put(lock)), 0);
  const std::int64_t other = thread_.Open(path, O_RDWR);
  const std::uint64_t query = thread_.Put(
      (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10});
  EXPECT_EQ(Call(SYS_fcntl, other, F_OFD_GETLK, query), 0);
  EXPECT_EQ(TestThread::At<struct flock>(query).l_type, F_WRLCK);
  EXPECT_EQ(TestThread::At<struct flock>(query).l_start, 1);
  for (const std::uint64_t hostile :
       {RuntimeAddress(), kArenaEnd, kArenaEnd - 4, ~std::uint64_t{0} - 3}) {
    EXPECT_EQ(Call(SYS_fcntl, fd, F_SETLK, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_fcntl, fd, F_GETLK, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_fcntl, fd, F_GETOWN_EX, hostile), -EFAULT);
  }
  close(static_cast<int>(fd));
  close(static_cast<int>(other));
}

TEST_F(DescriptorsTest, FcntlKnowsOnlyItsTable) {
  EXPECT_EQ(Call(SYS_fcntl, 0, F_GETFL), fcntl(0, F_GETFL));
  EXPECT_EQ(Call(SYS_fcntl, 999, F_GETFL), -EBADF);
  for (const int command : {12, 13, 14, 35, 1029, 1039, 5000, -1}) {
    EXPECT_EQ(Call(SYS_fcntl, 0, command, RuntimeAddress()), -EINVAL) << command;
  }
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_GE(Call(SYS_fcntl, ends[0], F_GETPIPE_SZ), 4096);
  EXPECT_EQ(Call(SYS_fcntl, ends[0], F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(fcntl(ends[0], F_GETFL), O_NONBLOCK);
  close(ends[0]);
  close(ends[1]);
}

// ---- close_range --------------------------------------------------------------------------------

class CloseRangeTest : public DescriptorsTest {
 protected:
  // In a child, so that the test's own descriptors survive. True when `check` is.
  bool InChild(const std::function<bool()>& check) {
    const pid_t child = fork();
    if (child == 0) _exit(check() ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    return status == 0;
  }
};

TEST_F(CloseRangeTest, LeavesTheRuntimesDescriptorsOpen) {
  for (const unsigned flags : {0u, unsigned{CLOSE_RANGE_UNSHARE}}) {
    EXPECT_TRUE(InChild([&] {
      const int guest = fcntl(0, F_DUPFD, 50);
      return Call(SYS_close_range, 3, ~0U, flags) == 0 && !IsOpen(guest) && IsOpen(0) &&
             IsOpen(FirstReserved()) && IsOpen(FirstReserved() + 1) &&
             thread_.Open("/proc/self/maps", O_RDONLY) == 3;
    }));
  }
  EXPECT_TRUE(InChild([&] {
    return Call(SYS_close_range, FirstReserved(), FirstReserved() + 1, 0) == 0 &&
           Call(SYS_close_range, FirstReserved(), ~0U, 0) == 0 &&
           Call(SYS_close_range, 40, FirstReserved() + 1, 0) == 0 && IsOpen(FirstReserved());
  }));
}

TEST_F(CloseRangeTest, MarksOnlyTheGuests) {
  EXPECT_TRUE(InChild([&] {
    const int guest = fcntl(0, F_DUPFD, 50);
    return Call(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 &&
           fcntl(guest, F_GETFD) == FD_CLOEXEC;
  }));
}

TEST_F(CloseRangeTest, RefusesWhatTheKernelRefuses) {
  EXPECT_EQ(Call(SYS_close_range, 5, 4, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_close_range, 900, 901, 64), -EINVAL);
  EXPECT_EQ(Call(SYS_close_range, FirstReserved(), FirstReserved(), 64), -EINVAL);
  EXPECT_EQ(Call(SYS_close_range, 900, FirstReserved(), 64), -EINVAL);
}

// ---- Limits -------------------------------------------------------------------------------------

class LimitsTest : public DescriptorsTest {
 protected:
  std::int64_t Get(int resource, rlimit& limit) {
    const std::uint64_t to = thread_.Put(rlimit{});
    const std::int64_t result = Call(SYS_prlimit64, 0, resource, 0, to);
    limit = TestThread::At<rlimit>(to);
    return result;
  }
  std::int64_t Set(int resource, rlim_t soft, rlim_t hard) {
    return Call(SYS_prlimit64, 0, resource, thread_.Put(rlimit{soft, hard}), 0);
  }
};

TEST_F(LimitsTest, OpenFilesAreTheGuestsInTheKernelAndOursAbove) {
  rlimit limit{};
  ASSERT_EQ(Get(RLIMIT_NOFILE, limit), 0);
  const rlimit before = limit;
  EXPECT_EQ(limit.rlim_max, static_cast<rlim_t>(FirstReserved()));
  EXPECT_EQ(Set(RLIMIT_NOFILE, 64, limit.rlim_max), 0);
  EXPECT_EQ(HostSoftLimit(), 64u);
  EXPECT_EQ(Call(SYS_dup2, 0, 64), -EBADF);
  EXPECT_EQ(Set(RLIMIT_NOFILE, 64, limit.rlim_max + 1), -EPERM);
  EXPECT_EQ(Set(RLIMIT_NOFILE, RLIM_INFINITY, RLIM_INFINITY), -EPERM);
  EXPECT_EQ(Set(RLIMIT_NOFILE, 65, 64), -EINVAL);
  EXPECT_TRUE(limits().DuplicateToReserved(0).ok());
  EXPECT_EQ(Set(RLIMIT_NOFILE, before.rlim_cur, before.rlim_max), 0);
  EXPECT_EQ(Call(SYS_getrlimit, RLIMIT_NOFILE, thread_.Put(rlimit{})), 0);
}

TEST_F(LimitsTest, StackMemoryAndCoreAreRememberedAndNothingElse) {
  for (const int resource : {RLIMIT_STACK, RLIMIT_AS, RLIMIT_DATA, RLIMIT_CORE}) {
    if (resource == RLIMIT_CORE && limits().Get(RLIMIT_CORE).rlim_max < 4096) continue;
    rlimit host{};
    getrlimit(static_cast<__rlimit_resource>(resource), &host);
    rlimit limit{};
    ASSERT_EQ(Get(resource, limit), 0);
    EXPECT_EQ(Set(resource, 4096, limit.rlim_max), 0);
    rlimit now{};
    EXPECT_EQ(Get(resource, now), 0);
    EXPECT_EQ(now.rlim_cur, 4096u);
    getrlimit(static_cast<__rlimit_resource>(resource), &now);
    EXPECT_EQ(now.rlim_cur, host.rlim_cur);
    EXPECT_EQ(Set(resource, limit.rlim_cur, limit.rlim_max), 0);
  }
}

TEST_F(LimitsTest, OtherLimitsAreTheKernels) {
  rlimit limit{};
  ASSERT_EQ(Get(RLIMIT_FSIZE, limit), 0);
  EXPECT_EQ(Call(SYS_setrlimit, RLIMIT_FSIZE, thread_.Put(rlimit{1 << 20, limit.rlim_max})), 0);
  rlimit host{};
  getrlimit(RLIMIT_FSIZE, &host);
  EXPECT_EQ(host.rlim_cur, 1u << 20);
  EXPECT_EQ(Call(SYS_setrlimit, RLIMIT_FSIZE, thread_.Put(limit)), 0);
  EXPECT_EQ(Get(RLIM_NLIMITS, limit), -EINVAL);
  EXPECT_EQ(Get(-1, limit), -EINVAL);
}

// A core file would have the runtime's memory in it. Below a page nothing is written, and with
// exactly 1 the kernel also starts no program that core_pattern names.
TEST_F(LimitsTest, TheKernelNeverDumpsCore) {
  rlimit host{};
  getrlimit(RLIMIT_CORE, &host);
  EXPECT_LE(host.rlim_cur, 1u);
  EXPECT_EQ(host.rlim_cur, std::min<rlim_t>(1, host.rlim_max));
  const rlimit before = limits().Get(RLIMIT_CORE);
  EXPECT_EQ(Set(RLIMIT_CORE, before.rlim_max, before.rlim_max), 0);
  getrlimit(RLIMIT_CORE, &host);
  EXPECT_LE(host.rlim_cur, 1u);
  EXPECT_EQ(Set(RLIMIT_CORE, before.rlim_cur, before.rlim_max), 0);
}

TEST_F(LimitsTest, OtherProcessesCanBeReadAndNotChanged) {
  const std::uint64_t limit = thread_.Put(rlimit{});
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  EXPECT_EQ(Call(SYS_prlimit64, child, RLIMIT_NOFILE, 0, limit), 0);
  EXPECT_EQ(Call(SYS_prlimit64, child, RLIMIT_NOFILE, limit, 0), -EPERM);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(Call(SYS_prlimit64, 0x3ffffff, RLIMIT_NOFILE, limit, 0), -ESRCH);
  EXPECT_EQ(Call(SYS_prlimit64, getpid(), RLIMIT_NOFILE, 0, limit), 0);
  EXPECT_EQ(TestThread::At<rlimit>(limit).rlim_max, static_cast<rlim_t>(FirstReserved()));
}

TEST_F(LimitsTest, HostilePointersFault) {
  for (const std::uint64_t hostile :
       {RuntimeAddress(), kArenaEnd, kArenaEnd - 8, ~std::uint64_t{0} - 3}) {
    EXPECT_EQ(Call(SYS_prlimit64, 0, RLIMIT_STACK, hostile, 0), -EFAULT);
    EXPECT_EQ(Call(SYS_prlimit64, 0, RLIMIT_STACK, 0, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_getrlimit, RLIMIT_NOFILE, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_setrlimit, RLIMIT_NOFILE, hostile), -EFAULT);
  }
  EXPECT_EQ(Call(SYS_getrlimit, RLIMIT_NOFILE, 0), -EFAULT);
}

TEST_F(LimitsTest, AChildsCopyIsItsOwn) {
  VirtualLimits child(OfVforkedChild(), limits());
  EXPECT_TRUE(child.Set(RLIMIT_STACK, {.rlim_cur = 1, .rlim_max = 2}).ok());
  EXPECT_EQ(child.Get(RLIMIT_STACK).rlim_cur, 1u);
  EXPECT_NE(limits().Get(RLIMIT_STACK).rlim_cur, 1u);
  EXPECT_EQ(child.Get(RLIMIT_NOFILE).rlim_max, limits().Get(RLIMIT_NOFILE).rlim_max);
}

TEST_F(LimitsTest, WhatAVforkedChildIsRefusedIsNotedWithItsParents) {
  const absl::StatusOr<int> file = LimitNotes::CreateFile({});
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<std::unique_ptr<LimitNotes>> notes = LimitNotes::Map(*file);
  close(*file);
  ASSERT_TRUE(notes.ok()) << notes.status();
  limits().notes = notes->get();
  const VirtualLimits child(OfVforkedChild(), limits());
  limits().notes = nullptr;
  ASSERT_NE(child.notes, nullptr);
  child.notes->Note(RefusedLimit::kTasks);
  EXPECT_TRUE((*notes)->Has(RefusedLimit::kTasks));
}

}  // namespace
}  // namespace dunebox::hostcalls
