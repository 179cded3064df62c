// The window in which a signal and a blocking call must not miss each other.
#include "hostcalls/dispatch/host_call.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "hostcalls/memory/protection_keys.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "tests/fakes/fake_caller.h"

extern "C" {
extern const char dunebox_host_call[], dunebox_keyed_host_call[];
extern const char dunebox_host_call_window[], dunebox_keyed_host_call_window[];
extern const char dunebox_host_call_syscall[], dunebox_keyed_host_call_syscall[];
extern const char dunebox_host_call_restart[], dunebox_keyed_host_call_restart[];
}

namespace dunebox::hostcalls {
namespace {

std::uint64_t At(const char* label) { return reinterpret_cast<std::uint64_t>(label); }

struct Stub {
  const char *start, *window, *syscall, *restart;
};
constexpr Stub kPlain = {dunebox_host_call, dunebox_host_call_window, dunebox_host_call_syscall,
                         dunebox_host_call_restart};
constexpr Stub kKeyed = {dunebox_keyed_host_call, dunebox_keyed_host_call_window,
                         dunebox_keyed_host_call_syscall, dunebox_keyed_host_call_restart};
// The one that HostCall uses.
const Stub& Current() { return KeysInUse() ? kKeyed : kPlain; }

// Opened once; from then on HostCall shuts key 0, and signal handlers of this test begin with
// nothing but key 0 open, which is all they need.
void UseKeys() {
  const absl::Status opened = OpenProtectionKeys();
  if (!opened.ok()) GTEST_SKIP() << opened;
  jit::UnregisterRseq();
}

struct Pipe {
  Pipe() { EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0); }
  ~Pipe() { close(ends[0]), close(ends[1]); }
  ArgumentValues Read(char* byte) const {
    return {static_cast<std::uint64_t>(ends[0]), reinterpret_cast<std::uint64_t>(byte), 1};
  }
  ArgumentValues Write(const char* byte) const {
    return {static_cast<std::uint64_t>(ends[1]), reinterpret_cast<std::uint64_t>(byte), 1};
  }
  bool IsEmpty() const {
    pollfd state{.fd = ends[0], .events = POLLIN, .revents = 0};
    return poll(&state, 1, 0) == 0;
  }
  int ends[2];
};

// Installs `handler` for `signal` as long as it lives.
class Handler {
 public:
  Handler(int signal, void (*handler)(int, siginfo_t*, void*), int flags = 0) : signal_(signal) {
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(signal, &action, &old_);
  }
  ~Handler() { sigaction(signal_, &old_, nullptr); }

 private:
  const int signal_;
  struct sigaction old_;
};

fakes::FakeCaller* caller = nullptr;
std::atomic<int> rewinds{0};

// What the runtime's handler does about the window.
void Arrive(int, siginfo_t*, void* raw) {
  auto& rip = static_cast<ucontext_t*>(raw)->uc_mcontext.gregs[REG_RIP];
  caller->signal_pending.store(1, std::memory_order_relaxed);
  const auto before = static_cast<std::uint64_t>(rip);
  const std::uint64_t after = HostCallRewind(before);
  if (after != before) ++rewinds;
  rip = static_cast<greg_t>(after);
}

TEST(HostCall, PassesSixArgumentsAndTheResult) {
  fakes::FakeCaller self;
  Pipe pipe;
  EXPECT_EQ(HostCall(self, SYS_write, pipe.Write("x")).value(), 1);
  char byte = 0;
  EXPECT_EQ(HostCall(self, SYS_read, pipe.Read(&byte)).value(), 1);
  EXPECT_EQ(byte, 'x');
  EXPECT_EQ(HostCall(self, SYS_read, {~std::uint64_t{0}}).error(), EBADF);
  EXPECT_EQ(HostCall(self, SYS_getpid, {}).value(), getpid());
  // mmap looks at all six.
  const auto mapped = HostCall(self, SYS_mmap, {0, 4096, 1, 0x22, ~std::uint64_t{0}, 0});
  ASSERT_TRUE(mapped.ok());
  EXPECT_TRUE(HostCall(self, SYS_munmap, {mapped.ToRegister(), 4096}).ok());
  EXPECT_EQ(HostCall(self, SYS_mmap, {0, 4096, 1, 0x22, ~std::uint64_t{0}, 1}).error(), EINVAL);
}

TEST(HostCall, DoesNothingWhileASignalIsPending) {
  fakes::FakeCaller self;
  self.signal_pending = 1;
  Pipe pipe;
  EXPECT_TRUE(HostCall(self, SYS_write, pipe.Write("x")).is_restart());
  EXPECT_TRUE(pipe.IsEmpty());
  self.signal_pending = 0;
  EXPECT_TRUE(HostCall(self, SYS_write, pipe.Write("x")).ok());
  EXPECT_FALSE(pipe.IsEmpty());
}

TEST(HostCallRewind, CoversTheWindowUpToTheSystemCallItself) {
  for (const Stub& stub : {kPlain, kKeyed}) {
    const std::uint64_t window = At(stub.window), call = At(stub.syscall);
    const std::uint64_t restart = At(stub.restart);
    for (std::uint64_t rip = At(stub.start); rip < restart + 16; ++rip) {
      EXPECT_EQ(HostCallRewind(rip), rip >= window && rip <= call ? restart : rip)
          << rip - At(stub.start);
    }
  }
  EXPECT_EQ(HostCallRewind(0), 0u);
  EXPECT_EQ(HostCallRewind(~std::uint64_t{0}), ~std::uint64_t{0});
}

// ---- a signal at each instruction ---------------------------------------------------------------

constexpr std::uint64_t kTrapFlag = 0x100;
int steps_left = 0;
bool arrived_before_the_call = false;
bool arrived = false;

// Counts instructions of the stub; the signal arrives at the one that was chosen.
void Step(int signal, siginfo_t* info, void* raw) {
  auto& context = *static_cast<ucontext_t*>(raw);
  const auto rip = static_cast<std::uint64_t>(context.uc_mcontext.gregs[REG_RIP]);
  if (rip < At(Current().start) || rip > At(Current().restart) + 16) return;
  if (steps_left-- != 0) return;
  arrived = true;
  arrived_before_the_call = rip <= At(Current().syscall);
  Arrive(signal, info, raw);
  context.uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
}

__attribute__((noinline)) void SetTrapFlag() {
  asm volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}
__attribute__((noinline)) void ClearTrapFlag() {
  asm volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

void ArriveAtEveryInstruction(const char* text) {
  fakes::FakeCaller self;
  caller = &self;
  Handler stepper(SIGTRAP, &Step);
  int before = 0, after = 0;
  for (int step = 0;; ++step) {
    Pipe pipe;
    self.signal_pending = 0;
    steps_left = step;
    arrived = false;
    SetTrapFlag();
    const SyscallResult result = HostCall(self, SYS_write, pipe.Write(text));
    ClearTrapFlag();
    if (!arrived) break;  // past the end of the stub
    ASSERT_LT(step, 100);
    // With the signal before the call nothing may have been done, or the guest would do it twice.
    EXPECT_EQ(result.is_restart(), arrived_before_the_call) << "step " << step;
    EXPECT_EQ(pipe.IsEmpty(), arrived_before_the_call) << "step " << step;
    ++(arrived_before_the_call ? before : after);
  }
  EXPECT_GE(before, 10);
  EXPECT_GE(after, 3);
}

TEST(HostCall, ASignalAtEveryInstructionIsSeenBeforeTheCallOrAfterIt) {
  ArriveAtEveryInstruction("x");
}

// ---- a storm ------------------------------------------------------------------------------------

// A timer that is armed again and again for a moment near a blocking read. A signal that is lost
// leaves the read blocked: then the watchdog writes, and the read has a result.
void Storm(int handler_flags, int rounds) {
  fakes::FakeCaller self;
  caller = &self;
  Handler handler(SIGUSR1, &Arrive, handler_flags);
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGUSR1;
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
  event.sigev_notify_thread_id = gettid();
  timer_t timer;
  ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  Pipe pipe;
  std::atomic<int> round{0};
  std::atomic<bool> done{false};
  std::thread watchdog([&] {
    int last = -1;
    auto since = std::chrono::steady_clock::now();
    while (!done) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      const auto now = std::chrono::steady_clock::now();
      if (std::exchange(last, round.load()) != round.load()) since = now;
      if (now - since > std::chrono::seconds(5)) {
        EXPECT_EQ(write(pipe.ends[1], "!", 1), 1);
        since = now;
      }
    }
  });
  std::mt19937 random(1);
  int restarted = 0, interrupted = 0, lost = 0;
  for (; round < rounds && lost == 0; ++round) {
    self.signal_pending = 0;
    const itimerspec soon{.it_interval = {},
                          .it_value = {.tv_sec = 0, .tv_nsec = 1 + long(random() % 20'000)}};
    timer_settime(timer, 0, &soon, nullptr);
    StagingScope staged(self.staging);
    char byte = 0;
    const SyscallResult result = HostCall(self, SYS_read, pipe.Read(staged.Place(byte)));
    if (result.is_restart()) {
      ++restarted;
    } else if (!result.ok() && result.error() == EINTR) {
      ++interrupted;
    } else {
      ++lost;
    }
    EXPECT_EQ(self.signal_pending, 1u);
  }
  done = true;
  watchdog.join();
  timer_delete(timer);
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(restarted + interrupted, rounds);
  ::testing::Test::RecordProperty("restarted", restarted);
  ::testing::Test::RecordProperty("interrupted", interrupted);
  ::testing::Test::RecordProperty("rewinds", rewinds.load());
}

TEST(HostCall, NoSignalIsLostBeforeABlockingRead) { Storm(0, 20'000); }

// The kernel puts RIP back onto the SYSCALL: that is inside the window too.
TEST(HostCall, NoSignalIsLostWhenTheKernelRestartsTheCall) {
  rewinds = 0;
  Storm(SA_RESTART, 20'000);
  EXPECT_GT(rewinds, 0);
}

// ---- with the runtime's memory shut (where there are protection keys: the lab) ------------------

constexpr std::size_t kPage = 4096;

struct KeyedPage {
  explicit KeyedPage(int key)
      : bytes(static_cast<char*>(
            mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    bytes[0] = 'k';
    EXPECT_TRUE(SetProtectionKey(bytes, kPage, PROT_READ | PROT_WRITE, key));
  }
  ~KeyedPage() { munmap(bytes, kPage); }
  char* const bytes;
};

class KeyedHostCall : public testing::Test {
 protected:
  void SetUp() override { UseKeys(); }
  int Write(const char* from) { return HostCall(self_, SYS_write, pipe_.Write(from)).error(); }
  int Read(char* to) {
    EXPECT_EQ(write(pipe_.ends[1], "r", 1), 1);
    const int error = HostCall(self_, SYS_read, pipe_.Read(to)).error();
    char byte;
    if (error != 0) {
      EXPECT_EQ(read(pipe_.ends[0], &byte, 1), 1);
    }
    return error;
  }
  fakes::FakeCaller self_;
  Pipe pipe_;
};

TEST_F(KeyedHostCall, TheKernelItselfRefusesAnAddressOfTheRuntimes) {
  static char data = 'd';
  char local = 'l';
  const std::unique_ptr<char> heap(new char('h'));
  for (char* const place : {&data, &local, heap.get()}) {
    const char before = *place;
    EXPECT_EQ(Write(place), EFAULT);
    EXPECT_EQ(Read(place), EFAULT);
    EXPECT_EQ(*place, before);
    // In the runtime's own view it is like any other.
    EXPECT_TRUE(RuntimeCall(self_, SYS_write, pipe_.Write(place)).ok());
    EXPECT_TRUE(RuntimeCall(self_, SYS_read, pipe_.Read(place)).ok());
  }
}

TEST_F(KeyedHostCall, GuestMemoryAndWhatIsStagedAreOpenAndTablesMayBeRead) {
  const KeyedPage guest(DUNE_KEY_GUEST), tables(DUNE_KEY_TABLES);
  EXPECT_EQ(Write(guest.bytes), 0);
  EXPECT_EQ(Read(guest.bytes), 0);
  EXPECT_EQ(Write(tables.bytes), 0);
  EXPECT_EQ(Read(tables.bytes), EFAULT);
  EXPECT_EQ(tables.bytes[0], 'k');
  char byte = 'b';
  StagingScope staged(self_.staging);
  char* const placed = staged.Place(byte);
  EXPECT_NE(placed, &byte);
  EXPECT_EQ(*placed, 'b');
  EXPECT_EQ(Write(placed), 0);
  EXPECT_EQ(Read(placed), 0);
}

TEST_F(KeyedHostCall, PathsAreStaged) {
  char path[] = "/proc/self/stat";
  const auto open_at = [&](const char* name) {
    return HostCall(self_, SYS_openat,
                    {~std::uint64_t{99}, reinterpret_cast<std::uint64_t>(name), O_RDONLY});
  };
  EXPECT_EQ(open_at(path).error(), EFAULT);
  StagingScope staged(self_.staging);
  const SyscallResult opened = open_at(staged.PlaceAll(std::span<char>(path)).data());
  ASSERT_TRUE(opened.ok());
  close(static_cast<int>(opened.value()));
}

TEST_F(KeyedHostCall, AnArrayOfBuffersIsStagedAndEachBufferIsTheGuests) {
  const KeyedPage guest(DUNE_KEY_GUEST);
  char own = 'o';
  StagingScope staged(self_.staging);
  iovec buffers[] = {{.iov_base = guest.bytes, .iov_len = 1}, {.iov_base = &own, .iov_len = 1}};
  const auto write_them = [&](const iovec* array, std::uint64_t count) {
    return HostCall(
        self_, SYS_writev,
        {static_cast<std::uint64_t>(pipe_.ends[1]), reinterpret_cast<std::uint64_t>(array), count});
  };
  EXPECT_EQ(write_them(buffers, 1).error(), EFAULT);
  const iovec* const placed = staged.PlaceAll(std::span<iovec>(buffers)).data();
  EXPECT_EQ(write_them(placed, 1).value(), 1);
  EXPECT_EQ(write_them(placed + 1, 1).error(), EFAULT);
}

TEST_F(KeyedHostCall, MoreThanTheAreaHoldsIsStagedToo) {
  std::vector<char> large(Staging::kSize + 1, 'x');
  StagingScope staged(self_.staging);
  const std::span<char> placed = staged.PlaceAll(std::span(large));
  EXPECT_EQ(Write(&placed.back()), 0);
}

TEST_F(KeyedHostCall, ASignalAtEveryInstructionIsSeenBeforeTheCallOrAfterIt) {
  const KeyedPage guest(DUNE_KEY_GUEST);
  ArriveAtEveryInstruction(guest.bytes);
}

TEST_F(KeyedHostCall, NoSignalIsLostBeforeABlockingRead) { Storm(0, 2'000); }

TEST_F(KeyedHostCall, NoSignalIsLostWhenTheKernelRestartsTheCall) { Storm(SA_RESTART, 2'000); }

}  // namespace
}  // namespace dunebox::hostcalls
