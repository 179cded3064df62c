// futex, timers, prctl, personality, seccomp, semctl, msgctl.
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <time.h>

#include <thread>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

class FutexTest : public ServicesTest {};

TEST_F(FutexTest, WaitsAndWakes) {
  const std::uint64_t word = thread_.Put(0);
  EXPECT_EQ(Call(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, 0), -EAGAIN);
  const std::uint64_t timeout = thread_.Put(timespec{0, 1'000'000});
  EXPECT_EQ(Call(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, timeout), -ETIMEDOUT);
  EXPECT_EQ(Call(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, timeout, 0, ~0),
            -ETIMEDOUT);
  std::thread waiter([&] {
    TestThread other(1);
    EXPECT_EQ(other.Call(SYS_futex, word, FUTEX_WAIT, 0, 0), 0);
  });
  while (Call(SYS_futex, word, FUTEX_WAKE, 1) == 0) std::this_thread::yield();
  waiter.join();
  EXPECT_EQ(Call(SYS_futex, word, FUTEX_CMP_REQUEUE, 1, 1, word + 64, 5), -EAGAIN);
  EXPECT_EQ(Call(SYS_futex, word, FUTEX_LOCK_PI_PRIVATE, 0, 0), 0);
  EXPECT_EQ(TestThread::At<int>(word), gettid());
  EXPECT_EQ(Call(SYS_futex, word, FUTEX_UNLOCK_PI_PRIVATE, 0), 0);
}

TEST_F(FutexTest, WordsAndTimeoutsOutsideTheWindowFault) {
  const std::uint64_t word = thread_.Put(0);
  for (const std::uint64_t hostile : {RuntimeAddress() & ~std::uint64_t{7},
                                      std::uint64_t{0x4000'0000'0000}, ~std::uint64_t{0} - 3}) {
    for (int operation = 0; operation < 16; ++operation) {
      const std::int64_t result = Call(SYS_futex, hostile, operation, 0, 0, word);
      EXPECT_TRUE(result == -EFAULT || result == -ENOSYS) << operation;
    }
    EXPECT_EQ(Call(SYS_futex, word, FUTEX_WAIT, 0, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_futex, word, FUTEX_REQUEUE, 1, 1, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_futex, word, FUTEX_WAKE_OP, 1, 1, hostile, 0), -EFAULT);
  }
  EXPECT_EQ(Call(SYS_futex, 0, FUTEX_WAKE, 1), -EFAULT);
  EXPECT_EQ(Call(SYS_futex, word + 1, FUTEX_WAKE, 1), -EINVAL);
  EXPECT_EQ(Call(SYS_futex, word, 2 /* FUTEX_FD */, 0), -ENOSYS);
  EXPECT_EQ(Call(SYS_futex, word, 14, 0), -ENOSYS);
}

class TimersTest : public ServicesTest {};

TEST_F(TimersTest, AreCreatedForTheProcessAndForItsThreads) {
  const std::uint64_t id = thread_.Put(-1);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGUSR1;
  event._sigev_un._tid = gettid();
  for (const std::uint64_t address : {thread_.Put(event), std::uint64_t{0}}) {
    EXPECT_EQ(Call(SYS_timer_create, CLOCK_MONOTONIC, address, id), 0);
    EXPECT_EQ(Call(SYS_timer_delete, TestThread::At<int>(id)), 0);
  }
  event._sigev_un._tid = getppid();
  EXPECT_EQ(Call(SYS_timer_create, CLOCK_MONOTONIC, thread_.Put(event), id), -EINVAL);
}

TEST_F(TimersTest, HostilePointersFaultAndLeaveNoTimer) {
  EXPECT_EQ(Call(SYS_timer_create, CLOCK_MONOTONIC, RuntimeAddress(), kArena), -EFAULT);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Call(SYS_timer_create, CLOCK_MONOTONIC, 0, kArenaEnd), -EFAULT);
    EXPECT_EQ(Call(SYS_timer_create, CLOCK_MONOTONIC, 0, RuntimeAddress()), -EFAULT);
  }
  const int fd = open("/proc/self/timers", O_RDONLY);
  EXPECT_EQ(ReadAll(fd), "");
  close(fd);
}

class PrctlTest : public ServicesTest {};

TEST_F(PrctlTest, NamesAreCopied) {
  EXPECT_EQ(Call(SYS_prctl, PR_SET_NAME, thread_.PutString("a-name-that-is-too-long")), 0);
  const std::uint64_t name = thread_.Allocate(16);
  EXPECT_EQ(Call(SYS_prctl, PR_GET_NAME, name), 0);
  EXPECT_STREQ(&TestThread::At<char>(name), "a-name-that-is-");
  std::memcpy(reinterpret_cast<void*>(kArenaEnd - 4), "end", 4);  // the last bytes there are
  EXPECT_EQ(Call(SYS_prctl, PR_SET_NAME, kArenaEnd - 4), 0);
  EXPECT_EQ(Call(SYS_prctl, PR_GET_NAME, name), 0);
  EXPECT_STREQ(&TestThread::At<char>(name), "end");
  for (const std::uint64_t hostile : {RuntimeAddress(), kArenaEnd, ~std::uint64_t{0}}) {
    EXPECT_EQ(Call(SYS_prctl, PR_SET_NAME, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_prctl, PR_GET_NAME, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_prctl, PR_GET_PDEATHSIG, hostile), -EFAULT);
    EXPECT_EQ(Call(SYS_prctl, PR_GET_CHILD_SUBREAPER, hostile), -EFAULT);
  }
}

TEST_F(PrctlTest, DumpableIsRememberedOnly) {
  const int host = prctl(PR_GET_DUMPABLE);
  EXPECT_EQ(Call(SYS_prctl, PR_SET_DUMPABLE, 0), 0);
  EXPECT_EQ(Call(SYS_prctl, PR_GET_DUMPABLE), 0);
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), host);
  EXPECT_EQ(Call(SYS_prctl, PR_SET_DUMPABLE, 2), -EINVAL);
  EXPECT_EQ(Call(SYS_prctl, PR_SET_DUMPABLE, 1), 0);
}

TEST_F(PrctlTest, HarmlessOptionsWork) {
  const std::uint64_t value = thread_.Put(-1);
  EXPECT_EQ(Call(SYS_prctl, PR_SET_PDEATHSIG, SIGUSR1), 0);
  EXPECT_EQ(Call(SYS_prctl, PR_GET_PDEATHSIG, value), 0);
  EXPECT_EQ(TestThread::At<int>(value), SIGUSR1);
  EXPECT_EQ(Call(SYS_prctl, PR_SET_PDEATHSIG, 0), 0);
  EXPECT_GE(Call(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
  EXPECT_GT(Call(SYS_prctl, PR_GET_TIMERSLACK), 0);
  EXPECT_GE(Call(SYS_prctl, PR_CAPBSET_READ, 0), 0);
  EXPECT_EQ(Call(SYS_prctl, PR_GET_SECCOMP), 0);
}

TEST_F(PrctlTest, WhatWouldHurtTheRuntimeIsRefused) {
  EXPECT_EQ(Call(SYS_prctl, PR_SET_MM, PR_SET_MM_BRK, kArena, 0, 0), -EPERM);
  for (const int option : {PR_SET_SECCOMP, PR_SET_TSC, PR_GET_TID_ADDRESS, PR_SCHED_CORE,
                           PR_SET_SYSCALL_USER_DISPATCH, PR_SET_IO_FLUSHER, PR_SET_PTRACER,
                           PR_SET_VMA, 65 /* MDWE */, 67 /* MEMORY_MERGE */, 0x41555856, -1}) {
    EXPECT_EQ(Call(SYS_prctl, option, 1, RuntimeAddress(), 0, 0), -EINVAL) << option;
  }
}

TEST_F(PrctlTest, BarriersAreWithoutThoseForRestartableSequences) {
  const std::int64_t kernels = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  ASSERT_GT(kernels, 0);
  EXPECT_EQ(Call(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0), kernels & 0x27f);
  EXPECT_EQ(Call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), 0);
  EXPECT_EQ(Call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
  EXPECT_EQ(Call(SYS_membarrier, 1 << 30, 0, 0), -EINVAL);
}

TEST_F(PrctlTest, PersonalityKeepsWhatTheRuntimeNeeds) {
  const std::int64_t now = Call(SYS_personality, 0xffffffff);
  EXPECT_EQ(now, personality(0xffffffff));
  EXPECT_EQ(Call(SYS_personality, PER_LINUX), now);
  for (const unsigned persona :
       std::initializer_list<unsigned>{READ_IMPLIES_EXEC, ADDR_COMPAT_LAYOUT, MMAP_PAGE_ZERO,
                                       ADDR_LIMIT_3GB, PER_LINUX32,
                                       ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC}) {
    EXPECT_EQ(Call(SYS_personality, persona), -EINVAL);
  }
  EXPECT_EQ(personality(0xffffffff), static_cast<int>(now));
  // Remembered, and never given to the kernel.
  EXPECT_EQ(Call(SYS_personality, ADDR_NO_RANDOMIZE), now);
  EXPECT_EQ(Call(SYS_personality, 0xffffffff), now | ADDR_NO_RANDOMIZE);
  EXPECT_EQ(personality(0xffffffff), static_cast<int>(now));
  EXPECT_EQ(Call(SYS_personality, PER_LINUX), now | ADDR_NO_RANDOMIZE);
  EXPECT_EQ(Call(SYS_personality, 0xffffffff), now);
}

TEST_F(PrctlTest, SeccompAnswersQueriesAndTakesNoFilter) {
  const std::uint64_t action = thread_.Put(std::uint32_t{SECCOMP_RET_ALLOW});
  EXPECT_EQ(Call(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, action),
            syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, action));
  EXPECT_EQ(Call(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, RuntimeAddress()), -EFAULT);
  EXPECT_EQ(Call(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, action), -EINVAL);
}

class IpcControlTest : public ServicesTest {};

TEST_F(IpcControlTest, SemaphoresAreSetAndRead) {
  const std::int64_t id = Call(SYS_semget, IPC_PRIVATE, 3, 0600);
  ASSERT_GE(id, 0);
  const std::uint16_t values[4] = {1, 2, 3, 0x7777};
  EXPECT_EQ(Call(SYS_semctl, id, 0, SETALL, thread_.Put(values)), 0);
  EXPECT_EQ(Call(SYS_semctl, id, 1, GETVAL, 0), 2);
  EXPECT_EQ(Call(SYS_semctl, id, 1, SETVAL, 9), 0);
  const std::uint64_t all = thread_.Put(values);
  EXPECT_EQ(Call(SYS_semctl, id, 0, GETALL, all), 0);
  EXPECT_EQ(TestThread::At<std::uint16_t>(all + 2), 9);
  EXPECT_EQ(TestThread::At<std::uint16_t>(all + 6), 0x7777);
  const std::uint64_t set = thread_.Put(semid_ds{});
  EXPECT_EQ(Call(SYS_semctl, id, 0, IPC_STAT, set), 0);
  EXPECT_EQ(TestThread::At<semid_ds>(set).sem_nsems, 3u);
  EXPECT_EQ(Call(SYS_semctl, id, 0, IPC_SET, set), 0);
  for (const std::uint64_t hostile :
       {RuntimeAddress(), kArenaEnd, kArenaEnd - 4, ~std::uint64_t{0} - 3}) {
    for (const int command : {IPC_STAT, IPC_SET, GETALL, SETALL, SEM_INFO, IPC_INFO}) {
      EXPECT_EQ(Call(SYS_semctl, id, 0, command, hostile), -EFAULT) << command;
    }
  }
  EXPECT_EQ(Call(SYS_semctl, id, 0, 999, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_semctl, id, 0, IPC_RMID, 0), 0);
  EXPECT_EQ(Call(SYS_semctl, id, 0, GETALL, all), -EINVAL);
}

TEST_F(IpcControlTest, MessageQueuesAreSetAndRead) {
  const std::int64_t id = Call(SYS_msgget, IPC_PRIVATE, 0600);
  ASSERT_GE(id, 0);
  const std::uint64_t queue = thread_.Put(msqid_ds{});
  EXPECT_EQ(Call(SYS_msgctl, id, IPC_STAT, queue), 0);
  EXPECT_EQ(TestThread::At<msqid_ds>(queue).msg_perm.mode & 0777, 0600);
  EXPECT_EQ(Call(SYS_msgctl, id, IPC_SET, queue), 0);
  for (const std::uint64_t hostile :
       {RuntimeAddress(), kArenaEnd, kArenaEnd - 4, ~std::uint64_t{0} - 3}) {
    for (const int command : {IPC_STAT, IPC_SET, MSG_INFO, IPC_INFO}) {
      EXPECT_EQ(Call(SYS_msgctl, id, command, hostile), -EFAULT) << command;
    }
  }
  EXPECT_EQ(Call(SYS_msgctl, id, 999, 0), -EINVAL);
  EXPECT_EQ(Call(SYS_msgctl, id, IPC_RMID, 0), 0);
}

}  // namespace
}  // namespace dunebox::hostcalls
