// Budgets of processor time, output that goes to the host's descriptors, and the C library's older signal functions.
#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <thread>

#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

using Kind = Failure::Kind;

class Budgets : public PluginTest {};

TEST_P(Budgets, OfACallEndIt) {
  Policy policy = Patient();
  policy.cpu_budget = absl::Milliseconds(50);
  Make(policy);
  for (const char* const name : {"spin", "spin_in_calls"}) {
    const absl::Status status = Call<void()>(name);
    EXPECT_EQ(FailureIn(status).kind, Kind::kCpuBudget) << status;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_FALSE(FailureIn(status).symbol.empty());
    ASSERT_TRUE(sandbox->Reset().ok());
    EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
  }
}

TEST_P(Budgets, AreOfTheProcessorAndNotOfTime) {
  Policy policy = Patient();
  policy.cpu_budget = absl::Milliseconds(100);
  Make(policy);
  // Five times the budget, asleep.
  struct Time {
    long seconds, nanoseconds;
  };
  auto time = sandbox->Allocate<Time>(1);
  ASSERT_TRUE(time.ok());
  time->span()[0] = {0, 500'000'000};
  EXPECT_EQ((Value<int(void*, void*)>("nanosleep", *time, nullptr)), 0);
  EXPECT_FALSE(sandbox->failure().has_value());
}

// The watchdog sleeps until then, which is more than its clock has.
TEST_P(Budgets, OfCenturiesCostNothing) {
  Policy policy = Patient();
  policy.deadline = absl::Hours(10'000'000);
  policy.load_deadline = absl::InfiniteDuration();  // it would sleep until that
  Make(policy);
  struct Time {
    long seconds, nanoseconds;
  };
  auto time = sandbox->Allocate<Time>(1);
  ASSERT_TRUE(time.ok());
  time->span()[0] = {1, 0};
  const auto used = [] {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return absl::DurationFromTimespec(now);
  };
  const absl::Duration before = used();
  EXPECT_EQ((Value<int(void*, void*)>("nanosleep", *time, nullptr)), 0);
  if (IsInThisProcess()) {
    EXPECT_LT(used() - before, absl::Milliseconds(100));
  }
}

TEST_P(Budgets, OfAnInnerCallAreWithinTheOuterOnes) {
  Policy policy = Patient();
  policy.cpu_budget = absl::Milliseconds(100);
  Make(policy);
  auto spin = sandbox->Export<int(int)>([this](Tainted<int>) {
    EXPECT_EQ(FailureIn(Call<void()>("spin")).kind, Kind::kCpuBudget);
    return 0;
  });
  ASSERT_TRUE(spin.ok());
  const auto called = Call<int(int (*)(int), int)>("call_back", *spin, 1);
  EXPECT_EQ(FailureIn(called.status()).kind, Kind::kCpuBudget);
}

class Instructions : public PluginTest {
 protected:
  // Under kvm each is an exception of the guest's.
  static constexpr long kDearer = 10;
  static long Some(long number) { return IsUnderKvm() ? number / kDearer : number; }
  void MakeWith(std::uint64_t budget) {
    Policy policy = Patient();
    policy.instruction_budget = budget;
    Make(std::move(policy));
    auto allocated = sandbox->Allocate<long>(1);
    ASSERT_TRUE(allocated.ok());
    place.emplace(*std::move(allocated));
  }
  absl::Status Count(long most) {
    place->span()[0] = 0;
    return Call<void(volatile long*, long)>(
        "count_in", TaintedPtr<volatile long>(place->guest().address()), most);
  }
  long counted() { return place->span()[0]; }

  std::optional<Memory<long>> place;
};

TEST_P(Instructions, EndTheCallThatRunsMore) {
  MakeWith(Some(100'000));
  for (const char* const name : {"spin", "spin_in_calls", "spin_without_trap_flag"}) {
    const absl::Status status = Call<void()>(name);
    EXPECT_EQ(FailureIn(status).kind, Kind::kInstructionBudget) << name << ": " << status;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_FALSE(FailureIn(status).symbol.empty());
    ASSERT_TRUE(sandbox->Reset().ok());
    EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
  }
}

TEST_P(Instructions, AreNeverMoreThanTheBudgetAndNotFarBelow) {
  const long budget = Some(30'000);
  MakeWith(budget);
  // Each call has its own.
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Count(budget / 10).ok());
  EXPECT_EQ(counted(), budget / 10);
  EXPECT_EQ(FailureIn(Count(budget)).kind, Kind::kInstructionBudget);
  EXPECT_LT(counted(), budget / 2);
  EXPECT_GT(counted(), budget / 10);
}

TEST_P(Instructions, AreTheSameNumberEachTime) {
  long first = 0;
  for (int i = 0; i < 3; ++i) {
    MakeWith(Some(20'000));
    ASSERT_TRUE(Count(1).ok());
    EXPECT_EQ(FailureIn(Count(Some(20'000))).kind, Kind::kInstructionBudget);
    if (i == 0) first = counted();
    // A kick may have a block counted twice.
    EXPECT_NEAR(static_cast<double>(counted()), static_cast<double>(first), 100);
  }
}

TEST_P(Instructions, OfAnInnerCallAreWithinTheOuterOnes) {
  MakeWith(Some(50'000));
  auto count = sandbox->Export<int(int)>([this](Tainted<int>) {
    EXPECT_TRUE(Count(Some(7'000)).ok());
    EXPECT_EQ(FailureIn(Count(Some(7'000))).kind, Kind::kInstructionBudget);
    return 0;
  });
  ASSERT_TRUE(count.ok());
  ASSERT_TRUE(Count(Some(7'000)).ok());
  const auto called = Call<int(int (*)(int), int)>("call_back", *count, 1);
  EXPECT_EQ(FailureIn(called.status()).kind, Kind::kInstructionBudget);
}

TEST_P(Instructions, OfLoadingAreNotAmongThem) {
  // Loading runs the dynamic linker.
  MakeWith(200);
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
  auto load = sandbox->Export<int(int)>([this](Tainted<int>) {
    const absl::Status loaded = sandbox->Load(PLUGIN_CASES);
    EXPECT_TRUE(loaded.ok()) << loaded;
    return 0;
  });
  ASSERT_TRUE(load.ok());
  EXPECT_EQ((Value<int(int (*)(int), int)>("call_back", *load, 1)), 1);
}

TEST_P(Instructions, AreCountedInClonesAndAfterResets) {
  MakeWith(Some(100'000));
  ASSERT_TRUE(Count(Some(1'000)).ok());
  ASSERT_TRUE(sandbox->Snapshot().ok());
  auto spin = sandbox->Function<void()>("spin");
  ASSERT_TRUE(spin.ok());
  auto clone = sandbox->Clone();
  ASSERT_TRUE(clone.ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(FailureIn((*clone)->CounterpartOf(*spin)()).kind, Kind::kInstructionBudget);
    ASSERT_TRUE((*clone)->Reset().ok());
    EXPECT_EQ(FailureIn((*spin)()).kind, Kind::kInstructionBudget);
    ASSERT_TRUE(sandbox->Reset().ok());
  }
  EXPECT_TRUE(Count(Some(1'000)).ok());
}

FOR_ONE_AND_TWO_WALLS(Instructions);

TEST_P(Budgets, OfThreadsThatOutliveTheCallEndTheSandbox) {
  Policy policy = Patient();
  policy.idle_cpu_budget = absl::Milliseconds(50);
  Make(policy);
  ASSERT_TRUE(Call<void()>("start_endless_thread").ok());
  for (int i = 0; i < 10'000 && !sandbox->failure(); ++i) usleep(10'000);
  ASSERT_TRUE(sandbox->failure().has_value());
  EXPECT_EQ(sandbox->failure()->kind, Kind::kCpuBudget);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
}

TEST_P(Budgets, OfThreadsBeginAnewWithEachCall) {
  Policy policy = Patient();
  policy.idle_cpu_budget = absl::Milliseconds(300);
  Make(policy);
  ASSERT_TRUE(Call<void()>("start_endless_thread").ok());
  // Four times the budget, but never that much without a call.
  for (int i = 0; i < 60; ++i) {
    usleep(20'000);
    ASSERT_EQ((Value<int(int, int)>("add", 1, 2)), 3) << i;
  }
}

class Outputs : public PluginTest {
 protected:
  void SetUp() override { ASSERT_EQ(pipe2(pipe_.data(), O_CLOEXEC | O_NONBLOCK), 0); }
  void TearDown() override {
    close(pipe_[0]);
    close(pipe_[1]);
  }
  int Say(const char* text) {
    auto words = sandbox->MakeString(text);
    return words.ok() ? Value<int(const char*)>("say", *words) : -1;
  }

  std::array<int, 2> pipe_{};
};

TEST_P(Outputs, GoToTheHostsDescriptorToo) {
  Policy policy = Patient();
  policy.stdout_to = pipe_[1];
  Make(policy);
  EXPECT_EQ(Say("a line"), 7);
  std::array<char, 64> text{};
  EXPECT_EQ(read(pipe_[0], text.data(), text.size()), 7);
  EXPECT_STREQ(text.data(), "a line\n");
  EXPECT_EQ(sandbox->TakeOutput(), "a line\n");
}

TEST_P(Outputs, ThatNobodyReadsAreAnErrorOfThePluginsAndNoSignalOfTheHosts) {
  Policy policy = Patient();
  policy.stdout_to = pipe_[1];
  Make(policy);
  close(pipe_[0]);
  static volatile sig_atomic_t signals;
  signals = 0;
  signal(SIGPIPE, [](int) { signals = signals + 1; });
  auto words = sandbox->MakeString("a line");
  ASSERT_TRUE(words.ok());
  EXPECT_EQ((Value<long(int, const void*, unsigned long)>("write", 1, *words, 6ul)), -1);
  EXPECT_EQ(signals, 0);
  EXPECT_EQ(sandbox->TakeOutput(), "");
  signal(SIGPIPE, SIG_DFL);
  pipe_[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// Nobody reads, and the pipe is one that waits.
TEST_P(Outputs, ThatAreFullWaitUntilTheDeadline) {
  ASSERT_EQ(fcntl(pipe_[1], F_SETFL, 0), 0);
  Policy policy = Patient();
  policy.deadline = absl::Milliseconds(300);
  policy.stdout_to = pipe_[1];
  Make(policy);
  const auto words = sandbox->Allocate<char>(100'000);
  ASSERT_TRUE(words.ok());
  const absl::Status status =
      Call<long(int, const void*, unsigned long)>("write", 1, *words, 100'000ul).status();
  EXPECT_EQ(FailureIn(status).kind, Kind::kTimeout);
  ASSERT_TRUE(sandbox->Reset().ok());
}

// From threads of the plugin's own, too, and from clones.
TEST_P(Outputs, GoThereFromEverywhere) {
  Policy policy = Patient();
  policy.stdout_to = pipe_[1];
  Make(policy);
  ASSERT_TRUE(sandbox->Snapshot().ok());
  auto clone = sandbox->Clone();
  ASSERT_TRUE(clone.ok()) << clone.status();
  for (const auto& where : {sandbox.get(), clone->get()}) {
    auto say = where->Function<int(const char*)>("say_in_thread");
    auto words = where->MakeString("from a thread");
    ASSERT_TRUE(say.ok() && words.ok());
    EXPECT_EQ((*say)(*words)->UnverifiedValue(), 0);
    std::array<char, 64> text{};
    EXPECT_EQ(read(pipe_[0], text.data(), text.size()), 14);
    EXPECT_STREQ(text.data(), "from a thread\n");
    ASSERT_TRUE(where->Reset().ok());
  }
}

TEST_P(Outputs, HaveToBeOpen) {
  Policy policy = Patient();
  policy.stderr_to = 1'000'000;
  EXPECT_EQ(Sandbox::Create(policy).status().code(), absl::StatusCode::kInvalidArgument);
}

FOR_ONE_AND_TWO_WALLS(Budgets);
FOR_ONE_AND_TWO_WALLS(Outputs);

// ---- handlers that are set by the older functions
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

class OldFunctions : public PluginTest {
 protected:
  void SetUp() override { Make({.deadline = absl::Milliseconds(200)}); }

  // Runs guest code while SIGALRM comes, and whether the handler was on the alternate stack.
  void ExpectSafe() {
    where_ = 0;
    const itimerval once{.it_interval = {}, .it_value = {0, 50'000}};
    setitimer(ITIMER_REAL, &once, nullptr);
    EXPECT_EQ(FailureIn(Call<void()>("spin")).kind, Kind::kTimeout);
    stack_t now{};
    ASSERT_EQ(sigaltstack(nullptr, &now), 0);
    const auto start = reinterpret_cast<unsigned long>(now.ss_sp);
    EXPECT_TRUE(where_ > start && where_ < start + now.ss_size) << where_;
    ASSERT_TRUE(sandbox->Reset().ok());
  }
  static void Handler(int) {
    where_ = reinterpret_cast<unsigned long>(__builtin_frame_address(0));
  }
  void TearDown() override { signal(SIGALRM, SIG_DFL); }

  static inline volatile unsigned long where_ = 0;
};

extern "C" sighandler_t bsd_signal(int, sighandler_t);

TEST_P(OldFunctions, SetHandlersThatStayOffTheGuestsStack) {
  EXPECT_EQ(sigset(SIGALRM, &Handler), SIG_DFL);
  ExpectSafe();
  EXPECT_EQ(bsd_signal(SIGALRM, &Handler), &Handler);
  ExpectSafe();
  EXPECT_EQ(ssignal(SIGALRM, &Handler), &Handler);
  ExpectSafe();
  for (const auto set : {&sysv_signal, &__sysv_signal}) {
    EXPECT_EQ(set(SIGALRM, &Handler), set == &sysv_signal ? &Handler : SIG_DFL);
    ExpectSafe();
    // Once.
    EXPECT_EQ(signal(SIGALRM, SIG_DFL), SIG_DFL);
  }
}

TEST_P(OldFunctions, CannotTakeTheSandboxesSignalsAway) {
  EXPECT_EQ(sigignore(SIGSEGV), 0);
  EXPECT_EQ(sighold(SIGSEGV), 0);
  EXPECT_EQ(sigset(SIGILL, SIG_HOLD), SIG_DFL);
  const int before = sigsetmask(-1);
  EXPECT_EQ(sigblock(-1), ~(1 << (SIGSEGV - 1) | 1 << (SIGBUS - 1) | 1 << (SIGFPE - 1) |
                            1 << (SIGILL - 1) | 1 << (SIGTRAP - 1) | 1 << (SIGKILL - 1) |
                            1 << (SIGSTOP - 1) | 1 << 31));
  EXPECT_EQ(FailureIn((Call<void(unsigned long, int)>("write_at", 0x10ul, 1))).signal, SIGSEGV);
  EXPECT_EQ(sigsetmask(before) & 1 << (SIGTERM - 1), 1 << (SIGTERM - 1));
  EXPECT_EQ(sigset(SIGSEGV, SIG_DFL), SIG_IGN);
  EXPECT_EQ(sighold(0), -1);
  EXPECT_EQ(sigset(SIGKILL, &Handler), SIG_ERR);
}

TEST_P(OldFunctions, TellWhatWasBlocked) {
  EXPECT_EQ(sigset(SIGUSR1, &Handler), SIG_DFL);
  EXPECT_EQ(sigset(SIGUSR1, SIG_HOLD), &Handler);
  EXPECT_EQ(sigset(SIGUSR1, SIG_HOLD), SIG_HOLD);
  EXPECT_EQ(sigset(SIGUSR1, SIG_DFL), SIG_HOLD);
  EXPECT_EQ(sigset(SIGUSR1, SIG_DFL), SIG_DFL);
}

INSTANTIATE_TEST_SUITE_P(OfThisProcess, OldFunctions, testing::Values(Demand::kOneWall));

#pragma GCC diagnostic pop

}  // namespace
}  // namespace dunebox
