// Signals between the kernel, the host handler and the guest: what is given back is pending again.
#include "runtime/signals/host_signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace dunebox::signals {
namespace {

// Leaves the mask of the test's thread as it was.
class HostSignals : public ::testing::Test {
 protected:
  HostSignals() { pending_.Attach(&flag_, [](void*) {}, nullptr); }
  ~HostSignals() override { SetHostMask(before_); }

  // As the kernel reported it.
  static siginfo_t Info(int signal, int code, int value) {
    siginfo_t info{};
    info.si_signo = signal;
    info.si_code = code;
    info.si_pid = 4711;
    info.si_value.sival_int = value;
    return info;
  }
  // Takes it from the kernel without waiting; 0: it is not pending.
  static int TakeFromKernel(int signal, siginfo_t& info) {
    const std::uint64_t set = MaskOf(signal);
    const timespec none{};
    const long got = syscall(SYS_rt_sigtimedwait, &set, &info, &none, sizeof(set));
    return got < 0 ? 0 : static_cast<int>(got);
  }

  std::atomic<std::uint32_t> flag_{0};
  PendingSignals pending_;
  const std::uint64_t before_ = HostMask();
};

TEST_F(HostSignals, WhatIsGivenBackIsPendingInTheKernelWithItsInfo) {
  const int queued = SIGRTMIN + 3;
  SetHostMask(MaskOf(SIGUSR1) | MaskOf(queued) | MaskOf(SIGCHLD));
  pending_.Add(SIGUSR1, Info(SIGUSR1, SI_USER, 0));
  pending_.Add(queued, Info(queued, SI_QUEUE, 42));
  // Of the kernel's own making: only to itself may a thread send it.
  pending_.Add(SIGCHLD, Info(SIGCHLD, CLD_EXITED, 0));
  pending_.Add(SIGUSR2, Info(SIGUSR2, SI_USER, 0));
  pending_.GiveBack(MaskOf(SIGUSR1) | MaskOf(queued) | MaskOf(SIGCHLD));
  EXPECT_EQ(pending_.mask(), MaskOf(SIGUSR2));
  siginfo_t info{};
  ASSERT_EQ(TakeFromKernel(SIGUSR1, info), SIGUSR1);
  EXPECT_EQ(info.si_code, SI_USER);
  EXPECT_EQ(info.si_pid, 4711);
  ASSERT_EQ(TakeFromKernel(queued, info), queued);
  EXPECT_EQ(info.si_value.sival_int, 42);
  ASSERT_EQ(TakeFromKernel(SIGCHLD, info), SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_EXITED);
  EXPECT_EQ(TakeFromKernel(SIGUSR2, info), 0);
}

TEST_F(HostSignals, OneOfTheQueuedIsNotedAtATimeAndTheCpusComeFirst) {
  const int queued = SIGRTMIN + 3;
  EXPECT_TRUE(pending_.Add(queued, Info(queued, SI_QUEUE, 1)));
  EXPECT_FALSE(pending_.Add(queued, Info(queued, SI_QUEUE, 2)));
  EXPECT_TRUE(pending_.Add(SIGHUP, Info(SIGHUP, SI_USER, 0)));
  EXPECT_TRUE(pending_.Add(SIGSEGV, Info(SIGSEGV, SI_USER, 0)));
  EXPECT_TRUE(pending_.Add(SIGSEGV, Info(SIGSEGV, SI_USER, 0)));
  siginfo_t info{};
  EXPECT_EQ(pending_.Take(0, info), SIGSEGV);
  EXPECT_EQ(pending_.Take(0, info), SIGHUP);
  EXPECT_EQ(pending_.Take(0, info), queued);
  EXPECT_EQ(info.si_value.sival_int, 1);
  EXPECT_TRUE(pending_.Add(queued, Info(queued, SI_QUEUE, 2)));
}

TEST_F(HostSignals, HandledSaysWhichSignalsHaveAHandlerOfTheGuests) {
  const KernelAction handler{.handler = 0x1000};
  SignalHandlers handlers;
  EXPECT_EQ(handlers.handled(), 0u);
  handlers.Set(SIGUSR1, handler);
  handlers.Set(SIGUSR2, handler);
  EXPECT_EQ(handlers.handled(), MaskOf(SIGUSR1) | MaskOf(SIGUSR2));
  const SignalHandlers copied(handlers);
  handlers.Set(SIGUSR1, {.handler = reinterpret_cast<std::uint64_t>(SIG_IGN)});
  handlers.Reset(SIGUSR2);
  EXPECT_EQ(handlers.handled(), 0u);
  EXPECT_EQ(copied.handled(), MaskOf(SIGUSR1) | MaskOf(SIGUSR2));
  handlers.Set(SIGUSR1, {});
}

// SIGUSR2 and the like are the test's own.
TEST_F(HostSignals, AHandlerIsReplacedWithoutTheHostOnlyByOneThatIsTheSameToIt) {
  SignalHandlers handlers;
  const KernelAction first{.handler = 0x1000, .flags = kSaRestart, .restorer = 0x10, .mask = 1};
  handlers.Set(SIGUSR2, first);
  const KernelAction refused[] = {
      {.handler = 0, .flags = kSaRestart, .restorer = 0, .mask = 0},
      {.handler = 1, .flags = kSaRestart, .restorer = 0, .mask = 0},
      {.handler = 0x2000, .flags = 0, .restorer = 0, .mask = 0},
      {.handler = 0x2000, .flags = kSaRestart | kSaNoCldStop, .restorer = 0, .mask = 0}};
  for (const KernelAction& action : refused) {
    handlers.Replace(SIGUSR2, action);
    EXPECT_EQ(handlers.Get(SIGUSR2).handler, first.handler);
  }
  const KernelAction second{.handler = 0x2000,
                            .flags = kSaRestart | kSaOnStack | kSaResetHand,
                            .restorer = 0x20,
                            .mask = ~std::uint64_t{0}};
  const std::uint64_t before = handlers.version();
  handlers.Replace(SIGUSR2, second);
  EXPECT_NE(handlers.version(), before);
  EXPECT_EQ(handlers.Get(SIGUSR2).handler, second.handler);
  EXPECT_EQ(handlers.Get(SIGUSR2).flags, second.flags);
  EXPECT_EQ(handlers.Get(SIGUSR2).mask, ~kUnblockable);
  abi::SignalActions shown{};
  handlers.CopyTo(shown);
  EXPECT_EQ(shown.of[SIGUSR2].handler, second.handler);
  EXPECT_EQ(shown.of[SIGUSR1].handler, 0u);
  // Not out of nothing.
  handlers.Replace(SIGUSR1, second);
  EXPECT_TRUE(handlers.Get(SIGUSR1).is_default());
  handlers.Set(SIGUSR2, {});
}

}  // namespace
}  // namespace dunebox::signals
