// Plugins that are out to harm: whatever hostile.cc does, the call ends, the host is as it was, and
// another sandbox goes on.
#include <dlfcn.h>
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cstring>
#include <vector>

#include "tests/plugin/fixture.h"

namespace {
std::atomic<bool> has_no_more_threads{false};
}

// As when RLIMIT_NPROC or a control group says so.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) {
  static const auto next = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return has_no_more_threads ? EAGAIN : next(thread, attributes, start, argument);
}

namespace dunebox {
namespace {

using Kind = Failure::Kind;

constexpr unsigned long kWindowEnd = 0x1'0000'0000;
constexpr unsigned long kDirection = 0x400, kTrapFlag = 0x100, kNested = 0x4000,
                        kAlignment = 0x40000, kIdentification = 0x200000;

int Victim() { return 0; }

class Hostile : public PluginTest {
 protected:
  void SetUp() override {
    Make({.deadline = absl::Seconds(20)});
    mxcsr_ = _mm_getcsr() & ~0x3fu;
    secret_ =
        mmap(nullptr, kSecretSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(secret_, MAP_FAILED);
    std::memset(secret_, 0x5a, kSecretSize);
  }
  void TearDown() override {
    ExpectSoundHost();
    munmap(secret_, kSecretSize);
  }

  // A callback that counts from 0; `calls` outlives the sandbox.
  auto ExportCounter(std::atomic<int>& calls) {
    calls = 0;
    return sandbox->Export<int(int)>([&calls](Tainted<int>) {
      ++calls;
      return 0;
    });
  }
  unsigned long Secret() const { return reinterpret_cast<unsigned long>(secret_); }
  // Addresses that are the host's, nobody's, or at the window's edges.
  std::vector<unsigned long> Addresses() const {
    return {0,
            1,
            8,
            0xffff,
            kWindowEnd - 1,
            kWindowEnd - 8,
            kWindowEnd - 4096,
            kWindowEnd,
            kWindowEnd + 8,
            kWindowEnd + 4096,
            0x7fff'ffff'fff8,
            0x8000'0000'0000,
            0xffff'8000'0000'0000,
            ~0ul,
            ~7ul,
            Secret(),
            Secret() + kSecretSize - 8,
            reinterpret_cast<unsigned long>(&Victim),
            reinterpret_cast<unsigned long>(__builtin_frame_address(0)),
            reinterpret_cast<unsigned long>(sandbox->engine().data())};
  }

  // No memory of the plugin's, whichever bits of the address count.
  static bool IsNowhere(unsigned long address) {
    const unsigned long low = address % kWindowEnd;
    return low < 0x10000 || low >= kWindowEnd - 4096;
  }

  // Nothing of the host's has changed; a failed sandbox can be used again.
  void ExpectSoundHost() {
    const auto* const bytes = static_cast<const unsigned char*>(secret_);
    for (std::size_t i = 0; i < kSecretSize; ++i) ASSERT_EQ(bytes[i], 0x5a) << i;
    EXPECT_EQ(_mm_getcsr() & ~0x3fu, mxcsr_);
    EXPECT_EQ(__builtin_ia32_readeflags_u64() & (kDirection | kTrapFlag | kNested | kAlignment),
              0u);
    ExpectEmptyX87();
    sigset_t mask;
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &mask), 0);
    EXPECT_EQ(sigismember(&mask, SIGUSR1), 0);
    if (sandbox->failure().has_value()) {
      const absl::Status reset = sandbox->Reset();
      ASSERT_TRUE(reset.ok()) << reset;
    }
  }
  void ExpectSound() {
    ExpectSoundHost();
    EXPECT_EQ((Value<int()>("sound")), 42);
  }
  // Eight loads fit.
  static void ExpectEmptyX87() {
    std::uint16_t control = 0;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    EXPECT_EQ(control, 0x37f);
    long double values[8];
    for (int i = 0; i < 8; ++i) values[i] = static_cast<long double>(i) / 3;
    EXPECT_EQ(values[7] * 3, 7.0L);
  }

  static constexpr std::size_t kSecretSize = 16384;
  void* secret_ = nullptr;
  unsigned mxcsr_ = 0;
};

FOR_ONE_AND_TWO_WALLS(Hostile);

TEST_P(Hostile, StacksAreTheirs) {
  for (const char* const name : {"use_stack_at", "leave_with_stack_at"}) {
    for (const unsigned long address : Addresses()) {
      SCOPED_TRACE(testing::Message() << name << ' ' << std::hex << address);
      const absl::Status status = Call<void(unsigned long)>(name, address);
      EXPECT_TRUE(!status.ok() || !IsNowhere(address));
      ExpectSound();
    }
  }
}

TEST_P(Hostile, CallbacksFromForeignStacksAreContained) {
  int calls = 0;
  auto back = sandbox->Export<void()>([&] {
    ++calls;
    // With a stack pointer that points anywhere.
    (void)Call<int()>("sound");
  });
  ASSERT_TRUE(back.ok());
  for (const unsigned long address : Addresses()) {
    SCOPED_TRACE(testing::Message() << std::hex << address);
    (void)Call<void(void (*)(), unsigned long)>("call_back_with_stack_at", *back, address);
    ExpectSound();
  }
}

TEST_P(Hostile, ReturnsAndJumpsStayInTheWindow) {
  for (const char* const name : {"return_to", "call_at", "jump_to", "fill_stack_with"}) {
    for (const unsigned long address : Addresses()) {
      SCOPED_TRACE(testing::Message() << name << ' ' << std::hex << address);
      const absl::Status status = Call<void(unsigned long)>(name, address);
      EXPECT_TRUE(!status.ok() || !IsNowhere(address));
      ExpectSound();
    }
  }
}

TEST_P(Hostile, TablesOfFunctionsLeadNowhereElse) {
  for (const char* const name : {"overwrite_got", "overwrite_program"}) {
    for (const unsigned long address : Addresses()) {
      SCOPED_TRACE(testing::Message() << name << ' ' << std::hex << address);
      (void)Call<int(unsigned long)>(name, address);
      (void)Call<int(int)>("raise_all", 0);
      ExpectSoundHost();
      ASSERT_TRUE(sandbox->Reset().ok());
      EXPECT_EQ((Value<int()>("sound")), 42);
    }
  }
}

TEST_P(Hostile, AccessesStayInTheWindow) {
  for (const unsigned long address : Addresses()) {
    SCOPED_TRACE(testing::Message() << std::hex << address);
    for (const char* const name : {"load_at", "store_wide", "store_state"}) {
      (void)Call<void(unsigned long)>(name, address);
      ExpectSound();
    }
    for (const char* const name : {"copy_bytes", "copy_backwards"}) {
      (void)Call<void(unsigned long, unsigned long, unsigned long)>(name, address, address + 64,
                                                                    8192ul);
      ExpectSound();
      (void)Call<void(unsigned long, unsigned long, unsigned long)>(name, address, address + 64,
                                                                    ~0ul);
      ExpectSound();
    }
  }
}

TEST_P(Hostile, SharedMemoryIsTheHosts) {
  auto shared = sandbox->Allocate<unsigned char>(8192);
  ASSERT_TRUE(shared.ok());
  const TaintedPtr<void> page(shared->guest().address() & ~4095ul);
  (void)Call<int(void*, unsigned long)>("discard", page, 4096ul);
  EXPECT_NE((Value<int(void*, unsigned long)>("move_away", page, 4096ul)), 0);
  shared->span()[0] = 1;
  (void)Call<void(void*)>("free_pointer", *shared);
  std::memset(shared->span().data(), 2, 8192);
  ExpectSound();
  (void)Call<void(void*)>("free_pointer", TaintedPtr<void>(Secret()));
  ExpectSound();
  auto again = sandbox->Allocate<unsigned char>(8192);
  ASSERT_TRUE(again.ok());
  (void)Call<void()>("unmap_everything");
  std::memset(again->span().data(), 3, 8192);
  ExpectSound();
  (void)Call<void()>("unmap_own_stack");
  ExpectSound();
}

TEST_P(Hostile, MappingsAreInTheWindow) {
  for (const unsigned long address :
       {kWindowEnd, kWindowEnd - 4096, Secret() & ~4095ul, 0x7fff'ffff'0000ul, ~0xffful}) {
    EXPECT_NE((Value<int(unsigned long)>("map_beyond", address)), 0) << address;
  }
  ExpectSound();
}

TEST_P(Hostile, SystemCallsLookAtTheirArguments) {
  for (const unsigned long address : Addresses()) {
    SCOPED_TRACE(testing::Message() << std::hex << address);
    EXPECT_EQ((Value<int(unsigned long, unsigned long)>("read_into", address, 4096ul)), EFAULT);
    EXPECT_EQ((Value<int(unsigned long, unsigned long)>("write_from", address, 4096ul)), EFAULT);
    EXPECT_EQ((Value<int(unsigned long, unsigned long)>("write_vector_at", address, 4ul)), EFAULT);
    EXPECT_EQ((Value<int(unsigned long, unsigned long)>("vector_of", address, 4096ul)), EFAULT);
    EXPECT_EQ((Value<int(unsigned long, unsigned long)>("write_vector_at", address, ~0ul)), EINVAL);
  }
  EXPECT_EQ(sandbox->TakeOutput(), "");
  ExpectSound();
  for (const unsigned long word : Addresses()) {
    SCOPED_TRACE(testing::Message() << std::hex << word);
    (void)Call<int(unsigned long)>("call_everything", word);
    ExpectSoundHost();
    ASSERT_TRUE(sandbox->Reset().ok());
  }
}

TEST_P(Hostile, SignalsOfAllNumbersStayInside) {
  for (int how = 0; how < 4; ++how) {
    (void)Call<int(int)>("raise_all", how);
    ExpectSound();
    ASSERT_TRUE(sandbox->Reset().ok());
  }
  EXPECT_EQ(FailureIn(Call<void()>("block_all_and_trap")).signal, SIGILL);
  ExpectSound();
}

TEST_P(Hostile, HandlersAreEnteredInTheWindowOnly) {
  for (const unsigned long address : Addresses()) {
    SCOPED_TRACE(testing::Message() << std::hex << address);
    using Handle = int(int, unsigned long, unsigned long, unsigned long);
    if (address > 1) {  // what is not SIG_DFL and SIG_IGN
      (void)Call<Handle>("handle_with", SIGUSR1, address, 0ul, address);
      ExpectSound();
      (void)Call<Handle>("handle_with", SIGSEGV, address, 0ul, address);
      ExpectSound();
    }
    (void)Call<Handle>("handle_with", SIGUSR1, 0x20000ul, address, 0ul);
    ExpectSound();
  }
}

TEST_P(Hostile, ForgedFramesAreContained) {
  using Forge = void(unsigned long, unsigned long, unsigned long, unsigned long, unsigned long);
  for (const unsigned long address : Addresses()) {
    SCOPED_TRACE(testing::Message() << std::hex << address);
    (void)Call<Forge>("forge_frame", address, 0ul, 0ul, 0ul, 0ul);
    ExpectSound();
    (void)Call<Forge>("forge_frame", 0ul, address, 0ul, 0ul, 0ul);
    ExpectSound();
    (void)Call<Forge>("forge_frame", 0ul, 0ul, address, 0ul, 0ul);
    ExpectSound();
    (void)Call<Forge>("forge_frame", 0ul, 0ul, 0ul, address, 0ul);
    ExpectSound();
  }
  for (const unsigned long state : {1ul, 2ul, 3ul}) {
    (void)Call<Forge>("forge_frame", 0ul, 0ul, 0ul, 0ul, state);
    ExpectSound();
  }
  (void)Call<void()>("return_from_no_handler");
  ExpectSound();
}

TEST_P(Hostile, StateIsTheHostsInCallbacksAndAfterTraps) {
  int calls = 0;
  auto back = sandbox->Export<int(int)>([&](Tainted<int> value) {
    ++calls;
    EXPECT_EQ(_mm_getcsr() & ~0x3fu, mxcsr_);
    EXPECT_EQ(__builtin_ia32_readeflags_u64() & (kDirection | kTrapFlag | kNested | kAlignment),
              0u);
    ExpectEmptyX87();
    // A rounding mode that the host has chosen is still there afterwards.
    std::fesetround(FE_DOWNWARD);
    EXPECT_EQ((Value<int()>("sound")), 42);
    EXPECT_EQ(std::fegetround(), FE_DOWNWARD);
    std::fesetround(FE_TONEAREST);
    return value.UnverifiedValue() * 2;
  });
  ASSERT_TRUE(back.ok());
  for (const unsigned long flags : {0ul, kDirection, kAlignment, kNested, kIdentification}) {
    SCOPED_TRACE(testing::Message() << std::hex << flags);
    const int before = calls;
    const auto result = Call<int(int (*)(int), unsigned long)>("call_back_in_a_mess", *back, flags);
    if (result.ok()) {
      EXPECT_EQ(result->UnverifiedValue(), 10);
      EXPECT_EQ(calls, before + 1);
    }
    ExpectSound();
    EXPECT_FALSE((Call<void(unsigned long)>("trap_in_a_mess", flags)).ok());
    ExpectSound();
    (void)Call<void(unsigned long)>("set_flags", flags | kTrapFlag);
    ExpectSound();
  }
  EXPECT_GT(calls, 0);
}

TEST_P(Hostile, SegmentsAreTheHosts) {
  static thread_local volatile int of_thread = 77;
  for (const char* const name : {"set_fs_base", "write_fs_base", "write_gs_base"}) {
    for (const unsigned long address : Addresses()) {
      SCOPED_TRACE(testing::Message() << name << ' ' << std::hex << address);
      (void)Call<void(unsigned long)>(name, address);
      EXPECT_EQ(of_thread, 77);
      ExpectSoundHost();
      ASSERT_TRUE(sandbox->Reset().ok());
    }
  }
  (void)Call<void()>("load_segment");
  EXPECT_EQ(of_thread, 77);
  ExpectSound();
}

TEST_P(Hostile, WaysOfNeverReturningEndAtTheDeadline) {
  Make({.deadline = absl::Milliseconds(300)});
  for (int how = 0; how < 6; ++how) {
    EXPECT_EQ(FailureIn(Call<void(int)>("wait_in", how)).kind, Kind::kTimeout) << how;
    ExpectSound();
  }
}

TEST_P(Hostile, JumpsIntoCallsThatAreOverAreContained) {
  EXPECT_EQ((Value<int()>("remember_call")), 0);
  // The same depth of stack: it may look like a return.
  (void)Call<void()>("jump_to_older_call");
  ExpectSound();
}

TEST_P(Hostile, ThreadsThatOutliveTheCallMayCallBack) {
  static std::atomic<int> calls;
  const auto back = ExportCounter(calls);
  ASSERT_TRUE(back.ok());
  EXPECT_GT((Value<int(int (*)(int), int)>("start_threads_that_call", *back, 100)), 0);
  while (calls < 100) usleep(1000);
  EXPECT_EQ((Value<int()>("sound")), 42);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_GT((Value<int(int (*)(int), int)>("start_threads_that_call", *back, 4)), 0);
  sandbox.reset();
  const int at_the_end = calls;
  usleep(20'000);
  EXPECT_EQ(calls, at_the_end);
  Make();
}

// In this process the plugin's own is the host's; in another it needs one of the host's to call it.
TEST_P(Hostile, ThreadsThatTheHostCannotHaveAreErrors) {
  static std::atomic<int> calls;
  const auto back = ExportCounter(calls);
  ASSERT_TRUE(back.ok());
  has_no_more_threads = true;
  const auto started = Call<int(int (*)(int), int)>("start_threads_that_call", *back, 4);
  if (IsInThisProcess()) {
    ASSERT_TRUE(started.ok()) << started.status();
    EXPECT_EQ(started->UnverifiedValue(), 0);
  } else {
    while (!sandbox->failure().has_value()) usleep(1000);
  }
  has_no_more_threads = false;
  EXPECT_EQ(calls, 0);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ((Value<int(int (*)(int), int)>("start_threads_that_call", *back, 4)), 4);
  while (calls < 4) usleep(1000);
  ASSERT_TRUE(sandbox->Reset().ok());
}

TEST_P(Hostile, ThreadsAtTheHostsGatesAreContained) {
  for (const unsigned long gate : {0x44420000ul, 0x44420001ul, 0x44420002ul, 0x44420003ul,
                                   0x44430000ul, 0x444301fful, 0x44430200ul}) {
    SCOPED_TRACE(testing::Message() << std::hex << gate);
    (void)Call<int(unsigned long)>("join_thread_at_gate", gate);
    ExpectSound();
    (void)Call<int(unsigned long)>("start_thread_at_gate", gate);
    ExpectSoundHost();
    ASSERT_TRUE(sandbox->Reset().ok());
  }
  (void)Call<void()>("start_thread_that_leaves");
  ExpectSoundHost();
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_FALSE(Call<void()>("end_this_thread").ok());
  ExpectSound();
}

TEST_P(Hostile, NestingHasAnEnd) {
  EXPECT_EQ(Sandbox::Create({.nesting = 100'000}).status().code(),
            absl::StatusCode::kInvalidArgument);
  Policy policy{.deadline = absl::Minutes(2), .stack = 64 << 20, .nesting = 1000};
  Make(policy);
  auto call_back = sandbox->Function<int(int (*)(int), int)>("call_back");
  ASSERT_TRUE(call_back.ok());
  FunctionPointer<int(int)> self;
  int deepest = 0;
  absl::StatusCode refused = absl::StatusCode::kOk;
  auto deeper = sandbox->Export<int(int)>([&](Tainted<int> depth) {
    deepest = std::max(deepest, depth.UnverifiedValue());
    if (depth.UnverifiedValue() == 100'000) return 0;
    const auto result = (*call_back)(self, depth.UnverifiedValue() + 1);
    if (!result.ok()) refused = result.status().code();
    return 0;
  });
  ASSERT_TRUE(deeper.ok());
  self = *deeper;
  EXPECT_TRUE((*call_back)(self, 0).ok());
  EXPECT_EQ(deepest, 1000);
  EXPECT_EQ(refused, absl::StatusCode::kResourceExhausted);
  ExpectSound();
}

}  // namespace
}  // namespace dunebox
