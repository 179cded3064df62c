// Plugins that crash, hang, leave, lie and reach for the host: each is an error of the call, and the host goes on.
#include <fcntl.h>
#include <immintrin.h>
#include <malloc.h>
#include <signal.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cfenv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <span>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

using Kind = Failure::Kind;

class Failures : public PluginTest {
 protected:
  void SetUp() override { Make(); }

  // It failed, goes on failing in the same way, and is as new after a reset.
  void ExpectOverUntilReset(const absl::Status& status) {
    const Failure first = FailureIn(status);
    const auto again = Call<int(int, int)>("add", 1, 2);
    EXPECT_EQ(FailureIn(again.status()).kind, first.kind);
    ASSERT_TRUE(sandbox->failure().has_value());
    const absl::Status reset = sandbox->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
    EXPECT_FALSE(sandbox->failure().has_value());
    EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
  }

  void ExpectSignal(const absl::Status& status, int signal) {
    const Failure failure = FailureIn(status);
    EXPECT_EQ(failure.kind, Kind::kTrap) << status;
    EXPECT_EQ(failure.signal, signal) << status;
  }
};

FOR_ONE_AND_TWO_WALLS(Failures);

TEST_P(Failures, OfAnAccessNameSignalAddressAndSymbol) {
  const absl::Status status = Call<void(unsigned long, int)>("write_at", 0x10ul, 1);
  const Failure failure = FailureIn(status);
  EXPECT_EQ(failure.kind, Kind::kTrap);
  EXPECT_EQ(failure.signal, SIGSEGV);
  EXPECT_EQ(failure.fault_address, 0x10u);
  EXPECT_THAT(failure.symbol, testing::HasSubstr("write_at"));
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  ExpectOverUntilReset(status);
}

TEST_P(Failures, OfArithmeticAreTheirs) { ExpectSignal(Call<int(int, int)>("divide", 1, 0).status(), SIGFPE); }

TEST_P(Failures, DoNotReachTheHost) {
  // The plugin's address is what is left of the host's in 32 bits: never the host's memory.
  static volatile unsigned char canary = 0x5a;
  const auto address = reinterpret_cast<unsigned long>(&canary);
  const absl::Status written = Call<void(unsigned long, int)>("write_at", address, 1);
  EXPECT_EQ(canary, 0x5a);
  if (!written.ok()) ExpectOverUntilReset(written);
  const absl::Status called =
      Call<int(unsigned long)>("call_address", reinterpret_cast<unsigned long>(&getpid)).status();
  EXPECT_FALSE(called.ok());
  ExpectOverUntilReset(called);
}

TEST_P(Failures, OfEndlessLoopsEndAtTheDeadline) {
  Make({.deadline = absl::Milliseconds(300)});
  for (const char* const name : {"spin", "spin_in_calls", "wait_for_ever"}) {
    const absl::Status status = Call<void()>(name);
    EXPECT_EQ(FailureIn(status).kind, Kind::kTimeout) << name;
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    ExpectOverUntilReset(status);
  }
  EXPECT_EQ(FailureIn(Call<void(int)>("sleep_for", 100)).kind, Kind::kTimeout);
}

TEST_P(Failures, OfExitAreNotTheHosts) {
  for (const char* const name : {"leave", "leave_at_once"}) {
    const absl::Status status = Call<void(int)>(name, 3);
    const Failure failure = FailureIn(status);
    EXPECT_EQ(failure.kind, Kind::kExited);
    EXPECT_EQ(failure.exit_status, 3);
    ExpectOverUntilReset(status);
  }
}

TEST_P(Failures, BySignalsOfTheirOwnEndThemselves) {
  ExpectSignal(Call<void()>("end"), SIGABRT);
  ASSERT_TRUE(sandbox->Reset().ok());
  ASSERT_TRUE(sandbox->Snapshot().ok());  // a reset takes less then
  const std::set<int> ignored = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH}, of_the_library = {32, 33};
  for (int signal = 1; signal <= 64; ++signal) {
    for (const char* const name : {"signal_self", "raise_here"}) {
      SCOPED_TRACE(testing::Message() << name << " " << signal);
      if (ignored.contains(signal)) {
        EXPECT_EQ((Value<int(int)>(name, signal)), 0);
      } else if (of_the_library.contains(signal) && name == std::string("raise_here")) {
        EXPECT_NE((Value<int(int)>(name, signal)), 0);
      } else {
        ExpectSignal(Call<int(int)>(name, signal).status(), signal);
        ASSERT_TRUE(sandbox->Reset().ok());
      }
    }
  }
}

TEST_P(Failures, OfTheStackAreContained) {
  ExpectSignal(Call<int(int)>("recurse", 0).status(), SIGSEGV);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_FALSE(Call<void()>("smash_stack").ok());
}

TEST_P(Failures, LeaveTheHostsStateAlone) {
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
  const unsigned mxcsr = _mm_getcsr();
  std::fesetround(FE_UPWARD);
  ASSERT_TRUE(Call<void()>("change_state").ok());
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(_mm_getcsr() & ~0x3fu, mxcsr & ~0x3fu);
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_OFF);
  EXPECT_EQ(__builtin_ia32_readeflags_u64() & 0x44400, 0u);  // AC, NT, DF
  // The x87 unit is empty: eight loads fit.
  long double values[8];
  for (int i = 0; i < 8; ++i) values[i] = static_cast<long double>(i) / 3;
  EXPECT_EQ(values[7] * 3, 7.0L);
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
}

TEST_P(Failures, InLookingForTheHostsValues) {
  auto look = sandbox->Function<unsigned long()>("look_into_registers");
  ASSERT_TRUE(look.ok());
  ASSERT_TRUE((*look)().ok());
  // The instructions between here and the guest use other registers, or the test would find less. With the
  // x87 unit in use all registers are loaded, without it only some.
  asm volatile(
      "vpcmpeqd %%ymm8, %%ymm8, %%ymm8; vmovdqa %%ymm8, %%ymm11; vmovdqa %%ymm8, %%ymm13;"
      "vmovdqa %%ymm8, %%ymm14; vmovdqa %%ymm8, %%ymm15"
      :
      :
      : "xmm8", "xmm11", "xmm13", "xmm14", "xmm15");
  EXPECT_EQ((*look)()->UnverifiedValue(), 0u);
  const std::uint64_t secret = 0x5ec7e75ec7e75ec7;
  asm volatile("vpcmpeqd %%ymm15, %%ymm15, %%ymm15; movq %0, %%mm0" : : "m"(secret) : "xmm15");
  const auto seen = (*look)();
  asm volatile("emms");
  EXPECT_EQ(seen->UnverifiedValue(), 0u);
}

// What the host's arithmetic has met with is its own.
TEST_P(Failures, InLookingForTheHostsExceptions) {
  auto flags = sandbox->Function<unsigned()>("arithmetic_flags");
  ASSERT_TRUE(flags.ok());
  const unsigned own = (*flags)()->UnverifiedValue();
  for (int time = 0; time < 2; ++time) {
    _mm_setcsr(_mm_getcsr() | _MM_EXCEPT_MASK);
    EXPECT_EQ((*flags)()->UnverifiedValue(), own);
  }
  _mm_setcsr(_mm_getcsr() & ~unsigned{_MM_EXCEPT_MASK});
}

constexpr std::uint64_t kSecret = 0x5ec7e75ec7e75ec7;

void HideInX87() { asm volatile("movq %0, %%mm3; movq %0, %%mm7" : : "m"(kSecret)); }

TEST_P(Failures, OfTheFirstCodeThatKnowsTheX87UnitFindNothingInIt) {
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
  auto look = sandbox->Function<unsigned long()>("look_into_x87");
  ASSERT_TRUE(look.ok());
  HideInX87();
  const auto seen = (*look)();
  asm volatile("emms");
  EXPECT_EQ(seen->UnverifiedValue(), 0u);
}

TEST_P(Failures, OfCodeThatBeganBeforeAnyKnewTheX87UnitFindNothingInIt) {
  Policy policy = Patient();
  policy.host_threads = 2;
  Make(std::move(policy));
  auto flags = sandbox->Allocate<int>(2);
  ASSERT_TRUE(flags.ok());
  auto when = sandbox->Function<unsigned long(int*, const volatile int*)>("look_into_x87_when");
  auto look = sandbox->Function<unsigned long()>("look_into_x87");
  ASSERT_TRUE(when.ok() && look.ok());
  const TaintedPtr<int> started(flags->guest().address());
  const TaintedPtr<const volatile int> go(flags->guest().address() + sizeof(int));
  volatile int* const words = flags->span().data();
  std::uint64_t seen = 1;
  std::thread waiting([&] {
    HideInX87();
    const auto result = (*when)(started, go);
    asm volatile("emms");
    if (result.ok()) seen = result->UnverifiedValue();
  });
  while (words[0] == 0) std::this_thread::yield();
  EXPECT_TRUE((*look)().ok());
  words[1] = 1;
  waiting.join();
  EXPECT_EQ(seen, 0u);
}

TEST_P(Failures, InLookingForTheHostsValuesInMoreRegisters) {
  auto look = sandbox->Function<unsigned long(unsigned long)>("look_into_more_registers");
  ASSERT_TRUE(look.ok());
  for (int time = 0; time < 2; ++time) {
    if (__builtin_cpu_supports("avx512f")) {
      asm volatile(
          "vpbroadcastq %0, %%zmm16; vmovdqa64 %%zmm16, %%zmm20; vmovdqa64 %%zmm16, %%zmm27;"
          "vmovdqa64 %%zmm16, %%zmm30; vmovdqa64 %%zmm16, %%zmm31;"
          "kmovw %k0, %%k1; kmovw %k0, %%k3; kmovw %k0, %%k7"
          :
          : "r"(kSecret));
    }
    EXPECT_EQ((*look)(kSecret)->UnverifiedValue(), 0u);
  }
}

TEST_P(Failures, OfSharedMemoryAreNotPossible) {
  auto shared = sandbox->Allocate<unsigned char>(8192);
  ASSERT_TRUE(shared.ok());
  const TaintedPtr<void> page(shared->guest().address() & ~4095ul);
  EXPECT_EQ((Value<int(void*, unsigned long)>("unmap_error", page, 4096ul)), EPERM);
  EXPECT_EQ((Value<int(void*, unsigned long)>("protect_error", page, 4096ul)), EPERM);
  EXPECT_EQ((Value<int(void*, unsigned long)>("map_over_error", page, 4096ul)), EPERM);
  shared->span()[0] = 1;
}

std::ptrdiff_t Mappings() {
  std::ifstream maps("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
}

TEST_P(Failures, OfTheHostForLackOfMappingsAreNotPossible) {
  EXPECT_LT((Value<int(int)>("count_mappings", 10'000)), 5000);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_LT((Value<int(int)>("punch_holes", 10'000)), 5000);
}

// Of those that are in no map of the guest's.
TEST_P(Failures, OfTheHostForLackOfItsOwnMappingsAreNotPossible) {
  const std::ptrdiff_t before = Mappings();
  for (const int advice : {MADV_RANDOM, MADV_SEQUENTIAL, MADV_NORMAL, MADV_HUGEPAGE, MADV_NOHUGEPAGE}) {
    EXPECT_EQ((Value<int(int, int)>("advise_every_other", 6000, advice)), 6000) << advice;
  }
  EXPECT_LT(Mappings(), before + 4096);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ((Value<int(int)>("execute_every_other", 4000)), 4000);
  EXPECT_LT(Mappings(), before + 4096);
}

// A host-side loop, in which no guest code runs.
TEST_P(Failures, OfWritingMuchEndAtTheDeadline) {
  Make({.deadline = absl::Milliseconds(200)});
  const absl::Time start = absl::Now();
  EXPECT_EQ(FailureIn(Call<long(unsigned long)>("write_much", 1ul << 30).status()).kind, Kind::kTimeout);
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));  // without an end it takes minutes
  Make();
  EXPECT_EQ((Value<long(unsigned long)>("write_much", 4ul << 20)), 0x7fff'f000l / 1024);
}

TEST_P(Failures, AreContainedInThreadsThatBlockAllSignals) {
  Make({.deadline = absl::Milliseconds(300)});
  std::thread([&] {
    sigset_t all;
    sigfillset(&all);
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &all, nullptr), 0);
    ExpectSignal(Call<void(unsigned long, int)>("write_at", 0x10ul, 1), SIGSEGV);
    ASSERT_TRUE(sandbox->Reset().ok());
    ASSERT_EQ(sigprocmask(SIG_BLOCK, &all, nullptr), 0);
    EXPECT_EQ(FailureIn(Call<void()>("spin")).kind, Kind::kTimeout);
    ASSERT_TRUE(sandbox->Reset().ok());
    sigset_t now;
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &now), 0);
    EXPECT_EQ(sigismember(&now, SIGTERM), 1);
    // Once code of a plugin's has run in this process; two walls alone leave the mask as the host has set it.
    EXPECT_TRUE(!IsInThisProcess() || sigismember(&now, SIGSEGV) == 0);
  }).join();
}

// As before the first sandbox: nobody has seen the mask.
TEST_P(Failures, OfPointersAreErrorsInThreadsThatNobodyHasPrepared) {
  const TaintedPtr<int> nowhere(0x20000);  // within the window, where nothing is
  const auto in_thread = [](auto body) {
    std::thread([&] {
      const std::uint64_t all = ~std::uint64_t{0};
      ASSERT_EQ(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, nullptr, sizeof(all)), 0);
      body();
    }).join();
  };
  in_thread([&] { EXPECT_EQ(sandbox->CopyIn(nowhere).status().code(), absl::StatusCode::kOutOfRange); });
  in_thread([&] {
    static constexpr int kValue = 1;
    EXPECT_EQ(sandbox->CopyOut(nowhere, std::span(&kValue, 1)).code(), absl::StatusCode::kOutOfRange);
  });
  in_thread([&] {
    EXPECT_EQ(sandbox->CopyString(TaintedPtr<const char>(0x20000), 9).status().code(), absl::StatusCode::kOutOfRange);
  });
}

// Whoever reads them may have a terminal that obeys them.
TEST_P(Failures, HaveNamesWithoutControlCharacters) {
  // Its variants run at the same time.
  const std::filesystem::path directory =
      std::filesystem::path(testing::TempDir()) / absl::StrCat("named\x1b[2J\nfiles.", getpid());
  std::filesystem::create_directory(directory);
  const std::filesystem::path library = directory / "lib\x1b[31m\n.so";
  std::filesystem::copy_file(PLUGIN_CASES, library, std::filesystem::copy_options::overwrite_existing);
  absl::StatusOr<std::unique_ptr<Sandbox>> other =
      Sandbox::Create({.engine = IsUnderKvm() ? Engine::kKvm : Engine::kAuto, .demand = GetParam()});
  ASSERT_TRUE(other.ok()) << other.status();
  ASSERT_TRUE((*other)->Load(library).ok());
  const auto path = (*other)->MakeString("/etc/\x1b]0;\npasswd");
  ASSERT_TRUE(path.ok());
  (void)(*(*other)->Function<int(const char*)>("fail_to_open"))(*path);
  EXPECT_THAT((*other)->Denials(), testing::Contains("read /etc/?]0;?passwd"));
  const absl::Status status = (*(*other)->Function<void(unsigned long, int)>("write_at"))(0x10ul, 1);
  EXPECT_EQ(FailureIn(status).symbol.substr(0, 11), "lib?[31m?.s") << status;
  std::filesystem::remove_all(directory);
}

// A handler of the host's that runs while guest code does is not on the guest's stack.
TEST_P(Failures, DoNotGetTheHostsHandlersOnTheirStack) {
  if (!IsInThisProcess()) GTEST_SKIP() << "no guest code runs in the host's threads";
  Make({.deadline = absl::Milliseconds(300)});
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  ASSERT_EQ(sigaltstack(&none, nullptr), 0);
  alignas(16) static char small[8192];
  const stack_t too_small{.ss_sp = small, .ss_flags = 0, .ss_size = sizeof(small)};
  EXPECT_EQ(sigaltstack(&too_small, nullptr), -1);
  static volatile unsigned long where = 0;
  struct sigaction action{}, old{};
  action.sa_handler = [](int) { where = reinterpret_cast<unsigned long>(__builtin_frame_address(0)); };
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  const itimerval once{.it_interval = {}, .it_value = {0, 50'000}};
  setitimer(ITIMER_REAL, &once, nullptr);
  EXPECT_EQ(FailureIn(Call<void()>("spin")).kind, Kind::kTimeout);
  sigaction(SIGALRM, &old, nullptr);
  stack_t now{};
  ASSERT_EQ(sigaltstack(nullptr, &now), 0);
  const auto start = reinterpret_cast<unsigned long>(now.ss_sp);
  EXPECT_TRUE(where > start && where < start + now.ss_size) << where;
}

TEST_P(Failures, OfPointersAreFoundByTheHost) {
  EXPECT_EQ(sandbox->CopyIn(TaintedPtr<int>(0x10)).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(sandbox->CopyIn(TaintedPtr<int>(~0ul - 2)).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(sandbox->CopyIn(TaintedPtr<char>(0x10000), 1ul << 40).status().code(),
            absl::StatusCode::kOutOfRange);
  int here = 0;
  EXPECT_FALSE(sandbox->CopyIn(TaintedPtr<int>(reinterpret_cast<unsigned long>(&here))).ok());
}

TEST_P(Failures, OfForgedGatesAreContained) {
  for (const unsigned number : {0x44420000u, 0x44420001u, 0x44430000u, 0x444301ffu, 0x44430200u}) {
    const absl::Status status = Call<void(unsigned, unsigned long)>("call_gate", number, 1ul);
    if (!status.ok()) ExpectOverUntilReset(status);
  }
}

TEST_P(Failures, OfThreadsThatOutliveTheCallEndWithTheSandbox) {
  ASSERT_TRUE(Call<void()>("start_endless_thread").ok());
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
  sandbox.reset();
}

TEST_P(Failures, InOneSandboxAreNotAnothers) {
  auto other = Sandbox::Create(Patient());
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE((*other)->Load(PLUGIN_CASES).ok());
  auto next = (*other)->Function<int()>("next");
  ASSERT_TRUE(next.ok());
  EXPECT_EQ((*next)()->UnverifiedValue(), 1);
  EXPECT_FALSE(Call<void()>("end").ok());
  EXPECT_EQ((*next)()->UnverifiedValue(), 2);
}

TEST_P(Failures, OfTheHostGoToItsOwnHandlers) {
  static volatile sig_atomic_t seen;
  static sigjmp_buf back;
  seen = 0;
  struct sigaction action{}, old{};
  action.sa_handler = [](int) {
    seen = seen + 1;
    siglongjmp(back, 1);
  };
  ASSERT_EQ(sigaction(SIGSEGV, &action, &old), 0);
  void* const page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sigsetjmp(back, 1) == 0) *static_cast<volatile char*>(page) = 1;
  EXPECT_EQ(seen, 1);
  ExpectSignal(Call<void(unsigned long, int)>("write_at", 0x10ul, 1), SIGSEGV);
  EXPECT_EQ(seen, 1);
  struct sigaction now{};
  ASSERT_EQ(sigaction(SIGSEGV, &old, &now), 0);
  EXPECT_EQ(now.sa_handler, action.sa_handler);
  munmap(page, 4096);
}

// A handler may set another one, whatever it has interrupted: the heap, for one.
TEST_P(Failures, OfTheHostsHandlersToBeRememberedTakeNoMemory) {
  struct sigaction action{}, old{};
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  const std::size_t before = mallinfo2().uordblks;
  constexpr std::size_t kTimes = 1000;
  for (std::size_t i = 0; i < kTimes; ++i) sigaction(SIGALRM, &action, nullptr);
  EXPECT_LT(mallinfo2().uordblks, before + kTimes);
  sigaction(SIGALRM, &old, nullptr);
}

TEST_P(Failures, DoNotKeepTheHostsSignalsAway) {
  Make({.deadline = absl::Milliseconds(500)});
  static volatile sig_atomic_t ticks;
  ticks = 0;
  static thread_local int of_thread = 7;
  signal(SIGALRM, [](int) { ticks = ticks + (of_thread == 7 ? 1 : 1000000); });
  const itimerval often{.it_interval = {0, 2000}, .it_value = {0, 2000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  EXPECT_EQ(FailureIn(Call<void()>("spin")).kind, Kind::kTimeout);
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  signal(SIGALRM, SIG_DFL);
  EXPECT_GT(ticks, 0);
  EXPECT_LT(ticks, 1000000);
}

// Those that the C library keeps for itself are refused by it, and go on being its own.
TEST_P(Failures, DoNotGiveTheLibrarysSignalsAway) {
  const struct sigaction fresh{};
  for (int signal = 32; signal < SIGRTMIN; ++signal) {
    errno = 0;
    EXPECT_EQ(sigaction(signal, &fresh, nullptr), -1) << signal;
    EXPECT_EQ(errno, EINVAL) << signal;
  }
}

std::ptrdiff_t EntriesOf(const char* directory) {
  return std::distance(std::filesystem::directory_iterator(directory), {});
}

TEST_P(Failures, AndResetsLeaveNothingBehind) {
  const auto fail_and_reset = [&] {
    EXPECT_FALSE((Call<void(unsigned long, int)>("write_at", 0x10ul, 1)).ok());
    ASSERT_TRUE(sandbox->Reset().ok());
    // It is still running when the next one begins.
    ASSERT_TRUE(Call<void()>("start_endless_thread").ok());
  };
  for (int i = 0; i < 5; ++i) fail_and_reset();
  const std::ptrdiff_t descriptors = EntriesOf("/proc/self/fd"), threads = EntriesOf("/proc/self/task");
  const std::ptrdiff_t mappings = Mappings();
  for (int i = 0; i < 40; ++i) fail_and_reset();
  EXPECT_EQ(EntriesOf("/proc/self/fd"), descriptors);
  // The last one's kernel thread may take a moment to go, and libc keeps a few stacks.
  EXPECT_LE(EntriesOf("/proc/self/task"), threads + 3);
  EXPECT_LE(Mappings(), mappings + 12);
}

// Whatever a plugin asks of its kernel: the host's memory, descriptors, directory and mask are as before.
TEST_P(Failures, OfRandomSystemCallsAreContained) {
  constexpr int kRounds = 40, kCalls = 500;
  Make({.deadline = absl::Seconds(20), .memory_limit = 64 << 20});
  std::vector<unsigned char> canary(1 << 20, 0x5a);
  const std::ptrdiff_t descriptors = EntriesOf("/proc/self/fd");
  const std::filesystem::path directory = std::filesystem::current_path();
  const mode_t mask = umask(0123);
  int finished = 0;
  for (unsigned long seed = 1; seed <= kRounds; ++seed) {
    const auto result = Call<int(unsigned long, int, unsigned long)>(
        "call_at_random", seed * 0x9e3779b97f4a7c15, kCalls,
        reinterpret_cast<unsigned long>(canary.data()) + 4096);
    finished += result.ok() ? 1 : 0;
    ASSERT_TRUE(sandbox->Reset().ok()) << seed;
  }
  EXPECT_GT(finished, 0);
  EXPECT_EQ(umask(mask), 0123u);
  EXPECT_EQ(std::filesystem::current_path(), directory);
  EXPECT_EQ(EntriesOf("/proc/self/fd"), descriptors);
  EXPECT_EQ(std::ranges::count(canary, 0x5a), std::ssize(canary));
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
}

TEST_P(Failures, InAForkedChildAreErrors) {
  auto add = sandbox->Function<int(int, int)>("add");
  ASSERT_TRUE(add.ok());
  // The second one asks no handlers of pthread_atfork.
  for (pid_t (*const make)() : {fork, _Fork}) {
    const pid_t child = make();
    if (child == 0) {
      alarm(60);
      const auto result = (*add)(1, 2);
      _exit(result.status().code() == absl::StatusCode::kFailedPrecondition ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ((*add)(1, 2)->UnverifiedValue(), 3);
  }
}

// It has none of the threads that the sandbox's end waits for.
TEST_P(Failures, OfAForkedChildsSandboxesAreNotWaitedFor) {
  ASSERT_TRUE(Call<void()>("start_endless_thread").ok());
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    sandbox.reset();
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_P(Failures, OfOpeningComeWithTheLastDescriptor) {
  constexpr char kFile[] = "/usr/lib/os-release";
  const auto opened = [&](int most, int keeps) {
    const auto path = sandbox->MakeString(kFile);
    return path.ok() ? Value<int(const char*, int, int)>("open_often", *path, most, keeps) : -1;
  };
  EXPECT_EQ(opened(256, 0), 61);
  for (const unsigned wrong : {0u, 2u, 257u}) {
    Policy policy = Patient();
    policy.open_files = wrong;
    EXPECT_TRUE(absl::IsInvalidArgument(Sandbox::Create(std::move(policy)).status())) << wrong;
  }
  Policy policy = Patient();
  policy.open_files = 100;
  Make(policy);
  EXPECT_EQ(opened(256, 0), 97);
  EXPECT_EQ(opened(256, 0), 97);
  // What was saved has no more than the policy under which it is opened.
  EXPECT_EQ(opened(80, 1), 80);
  ASSERT_TRUE(sandbox->Snapshot().ok());
  const std::string file = testing::TempDir() + "dunebox-open-files-" + std::to_string(getpid());
  ASSERT_TRUE(sandbox->Save(file).ok());
  policy.engine = IsUnderKvm() ? Engine::kKvm : Engine::kAuto;
  EXPECT_TRUE(Sandbox::Open(file, policy).ok());
  policy.open_files = 80;
  const absl::Status status = Sandbox::Open(file, policy).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  unlink(file.c_str());
}

}  // namespace
}  // namespace dunebox
