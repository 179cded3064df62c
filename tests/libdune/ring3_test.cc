// Ring 3 where there is no ring 0: dune::RunUser by the translator (dunebox/ring3.h). What the same calls do in ring 0
// is tested by ring0/dune_user.cc, in the lab.
#include "dunebox/ring3.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "dune/dune.h"
#include "dune/user.h"

asm(R"(
        .pushsection .rodata
        .balign 64
ring3_code:
        addq    %rdi, %rbx
        paddq   %xmm0, %xmm0
        movq    %rbx, 8(%rsp)
        rdfsbase %rsi
        movl    $77, %eax
        syscall
        jmp     ring3_code
        .balign 64
ring3_spin:
        incq    %rbx
        jmp     ring3_spin
        .balign 64
ring3_privileged:
        movq    %cr3, %rax
        .balign 64
ring3_store:
        movb    $9, (%rdi)
        movl    $1, %eax
        syscall
        .balign 64
ring3_call:
        call    *%rdi
        syscall
        .balign 64
ring3_code_end:
        .popsection
)");
extern "C" const char ring3_code[], ring3_spin[], ring3_privileged[], ring3_store[], ring3_call[],
    ring3_code_end[];

namespace dune {
namespace {

constexpr std::uintptr_t kCode = 0x400000, kStack = 0x7000'0000, kHeap = 0x5000'0000;

std::uintptr_t AddressOf(const char* label) {
  return kCode + static_cast<std::uintptr_t>(label - ring3_code);
}

// Memory of both sides.
class Shared {
 public:
  explicit Shared(std::size_t bytes, int kind = MAP_SHARED)
      : bytes_(bytes),
        memory_(static_cast<char*>(
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0))) {}
  ~Shared() { munmap(memory_, bytes_); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  char* data() { return memory_; }

 private:
  std::size_t bytes_;
  char* memory_;
};

class Ring3 : public ::testing::Test {
 protected:
  void SetUp() override {
    const absl::Status provided = dunebox::ProvideRing3();
    if (absl::IsUnavailable(provided)) GTEST_SKIP() << provided;
    ASSERT_TRUE(provided.ok()) << provided;
    const absl::Status entered = Enter({.backend = Wanted::kSoftware});
    ASSERT_TRUE(entered.ok()) << entered;
    ASSERT_TRUE(GetCapabilities().user_mode);
    std::memcpy(code_.data(), ring3_code, static_cast<std::size_t>(ring3_code_end - ring3_code));
    context_.rip = kCode;
    context_.rsp = kStack + 2048;
  }

  PageTable MakeTable() {
    absl::StatusOr<PageTable> table = PageTable::Create(PageTable::Contents::kEmpty);
    EXPECT_TRUE(table.ok()) << table.status();
    EXPECT_TRUE(table->Map({kCode, 4096}, code_.data(), {.rights = Rights::kReadExecute}).ok());
    EXPECT_TRUE(table->Map({kStack, 4096}, stack_.data(), {}).ok());
    EXPECT_TRUE(table->Map({kHeap, 8192}, heap_.data(), {}).ok());
    return *std::move(table);
  }

  Stop Run(PageTable& table, absl::Duration time = absl::InfiniteDuration()) {
    const absl::StatusOr<Stop> stop = RunUser(context_, table, {.time = time});
    EXPECT_TRUE(stop.ok()) << stop.status();
    return stop.ok() ? *stop : Stop{};
  }

  Shared code_{4096}, stack_{4096}, heap_{8192};
  UserContext context_;
};

TEST_F(Ring3, SystemCallsComeBackWithAllRegisters) {
  PageTable table = MakeTable();
  context_.rdi = 5;
  context_.fs_base = 0x1234'5678;
  for (std::uint64_t round = 1; round <= 100; ++round) {
    ASSERT_EQ(Run(table).reason, StopReason::kSystemCall);
    ASSERT_EQ(context_.rax, 77u);
    ASSERT_EQ(context_.rbx, 5 * round);
    ASSERT_EQ(context_.rsi, 0x1234'5678u);
    ASSERT_EQ(std::memcmp(stack_.data() + 2056, &context_.rbx, 8), 0);
    // Its vector register doubles each round, from the first's 1.
    std::uint64_t low = 1;
    if (round == 1) {
      std::memcpy(context_.extended.data() + 160, &low, 8);
      context_.extended[512] |= std::byte{2};
    } else if (round < 60) {
      std::memcpy(&low, context_.extended.data() + 160, 8);
      ASSERT_EQ(low, std::uint64_t{1} << (round - 1));
    }
  }
}

TEST_F(Ring3, TwoContextsTakeTurnsInOneTable) {
  PageTable table = MakeTable();
  UserContext other = context_;
  context_.rdi = 1, other.rdi = 100;
  for (std::uint64_t round = 1; round <= 50; ++round) {
    Run(table);
    std::swap(context_, other);
    Run(table);
    std::swap(context_, other);
    ASSERT_EQ(context_.rbx, round);
    ASSERT_EQ(other.rbx, 100 * round);
  }
}

TEST_F(Ring3, WhatItMayNotDoIsAFaultAtTheInstruction) {
  PageTable table = MakeTable();
  context_.rip = AddressOf(ring3_privileged);
  Stop stop = Run(table);
  EXPECT_EQ(stop.reason, StopReason::kFault);
  EXPECT_EQ(stop.vector, 13);
  EXPECT_EQ(context_.rip, AddressOf(ring3_privileged));
  for (const std::uintptr_t target : {kCode, std::uintptr_t{0x6000'0000}, std::uintptr_t{8}}) {
    context_.rip = AddressOf(ring3_store);
    context_.rdi = target;
    stop = Run(table);
    EXPECT_EQ(stop.reason, StopReason::kFault);
    EXPECT_EQ(stop.vector, 14);
    EXPECT_EQ(stop.address, target);
    EXPECT_EQ(context_.rip, AddressOf(ring3_store));
  }
  // Data is not executed.
  context_.rip = AddressOf(ring3_call);
  context_.rdi = kHeap;
  stop = Run(table);
  EXPECT_EQ(stop.reason, StopReason::kFault);
  EXPECT_EQ(stop.address, kHeap);
}

TEST_F(Ring3, TheProcessIsOutOfReach) {
  PageTable table = MakeTable();
  Shared victim(4096);
  victim.data()[0] = 1;
  context_.rip = AddressOf(ring3_store);
  context_.rdi = reinterpret_cast<std::uintptr_t>(victim.data());
  const Stop stop = Run(table);
  // Its lower half is an address of ring 3's, where nothing is, or something of its own.
  EXPECT_TRUE(stop.reason == StopReason::kFault || stop.reason == StopReason::kSystemCall);
  EXPECT_EQ(victim.data()[0], 1);
}

TEST_F(Ring3, ItRunsNoLongerThanItMay) {
  PageTable table = MakeTable();
  context_.rip = AddressOf(ring3_spin);
  for (int round = 0; round < 3; ++round) {
    const std::uint64_t before = context_.rbx;
    // On a busy machine the time may be over before there is translated code.
    while (context_.rbx == before) ASSERT_EQ(Run(table, absl::Milliseconds(20)).reason, StopReason::kTime);
  }
  EXPECT_EQ(Run(table, absl::ZeroDuration()).reason, StopReason::kTime);
  context_.rip = kCode;
  EXPECT_EQ(Run(table, absl::Hours(1)).reason, StopReason::kSystemCall);
}

volatile sig_atomic_t alarms = 0;

TEST_F(Ring3, ASignalInterruptsIt) {
  PageTable table = MakeTable();
  signal(SIGALRM, [](int) { alarms = alarms + 1; });
  for (int round = 0; round < 5; ++round) {
    const int seen = alarms;
    // On a busy machine the first may come before it runs.
    const itimerval now_and_then{{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &now_and_then, nullptr);
    context_.rip = AddressOf(ring3_spin);
    EXPECT_EQ(Run(table).reason, StopReason::kInterrupted);
    EXPECT_GT(alarms, seen);
  }
  // At every place of the way in and out no call is lost.
  const itimerval often{{0, 300}, {0, 300}};
  setitimer(ITIMER_REAL, &often, nullptr);
  context_.rip = kCode;
  context_.rbx = 0, context_.rdi = 1;
  int interrupted = 0;
  for (std::uint64_t calls = 0; calls < 50'000 || interrupted < 10;) {
    const Stop stop = Run(table);
    ASSERT_NE(stop.reason, StopReason::kFault);
    interrupted += stop.reason == StopReason::kInterrupted ? 1 : 0;
    if (stop.reason == StopReason::kSystemCall) ++calls;
    // Its code adds before it calls.
    ASSERT_GE(context_.rbx, calls);
    ASSERT_LE(context_.rbx, calls + 1);
  }
  const itimerval off{};
  setitimer(ITIMER_REAL, &off, nullptr);
}

TEST_F(Ring3, RightsChangeWhileItIsThere) {
  PageTable table = MakeTable();
  context_.rip = AddressOf(ring3_store);
  context_.rdi = kHeap + 4096;
  EXPECT_EQ(Run(table).reason, StopReason::kSystemCall);
  EXPECT_EQ(heap_.data()[4096], 9);
  ASSERT_TRUE(table.Protect({kHeap + 4096, 4096}, Rights::kRead).ok());
  EXPECT_EQ(table.Walk(kHeap + 4100)->rights, Rights::kRead);
  context_.rip = AddressOf(ring3_store);
  EXPECT_EQ(Run(table).reason, StopReason::kFault);
  ASSERT_TRUE(table.Unmap({kHeap, 4096}).ok());
  EXPECT_TRUE(absl::IsNotFound(table.Walk(kHeap).status()));
  EXPECT_TRUE(absl::IsNotFound(table.Protect({kHeap, 8192}, Rights::kRead)));
  context_.rip = AddressOf(ring3_store);
  context_.rdi = kHeap;
  EXPECT_EQ(Run(table).address, kHeap);
  std::vector<std::uintptr_t> pages;
  ASSERT_TRUE(table.Visit({0, std::size_t{1} << 32}, [&](const Mapping& mapping) {
    pages.push_back(mapping.page.begin);
    EXPECT_EQ(mapping.ring, Ring::kUser);
  }).ok());
  EXPECT_EQ(pages, (std::vector<std::uintptr_t>{kCode, kHeap + 4096, kStack}));
}

TEST_F(Ring3, CodeThatTheProgramChangesIsRunAsItIs) {
  PageTable table = MakeTable();
  for (const unsigned char number : {11, 22, 33}) {
    // mov $number, %eax; syscall
    const unsigned char bytes[] = {0xb8, number, 0, 0, 0, 0x0f, 0x05};
    std::memcpy(code_.data() + 2048, bytes, sizeof(bytes));
    context_.rip = kCode + 2048;
    EXPECT_EQ(Run(table).reason, StopReason::kSystemCall);
    EXPECT_EQ(context_.rax, number);
  }
}

TEST_F(Ring3, CopiesHaveItsRights) {
  PageTable table = MakeTable();
  const char text[] = "both sides";
  ASSERT_TRUE(CopyToUser(table, kHeap + 4090, text, sizeof(text)).ok());
  EXPECT_STREQ(heap_.data() + 4090, text);
  char back[sizeof(text)]{};
  ASSERT_TRUE(CopyFromUser(table, back, kHeap + 4090, sizeof(back)).ok());
  EXPECT_STREQ(back, text);
  EXPECT_TRUE(absl::IsOutOfRange(CopyToUser(table, kCode, text, sizeof(text))));
  EXPECT_TRUE(absl::IsOutOfRange(CopyToUser(table, kHeap + 8190, text, sizeof(text))));
  EXPECT_EQ(heap_.data()[8190], 0);
  EXPECT_TRUE(absl::IsOutOfRange(
      CopyFromUser(table, back, reinterpret_cast<std::uintptr_t>(text), sizeof(back))));
}

TEST_F(Ring3, WhatItCannotDoIsRefused) {
  PageTable table = MakeTable();
  Shared own(8192, MAP_PRIVATE);
  EXPECT_TRUE(absl::IsInvalidArgument(table.Map({kHeap, 4096}, own.data(), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(table.Map({std::uintptr_t{1} << 32, 4096}, heap_.data(), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(table.Map({0, 4096}, heap_.data(), {})));
  EXPECT_TRUE(absl::IsUnimplemented(
      table.Map({kHeap, 4096}, heap_.data(), {.ring = Ring::kSupervisor})));
  EXPECT_TRUE(absl::IsUnimplemented(table.Clone(PageTable::Sharing::kShare).status()));
  EXPECT_TRUE(absl::IsUnimplemented(table.Activate()));
  EXPECT_TRUE(absl::IsUnimplemented(PageTable::Create(PageTable::Contents::kProcess).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(RunUser(context_, PageTable::Current()).status()));
  context_.rip = std::uint64_t{1} << 47;
  EXPECT_TRUE(absl::IsInvalidArgument(RunUser(context_, table).status()));
  // What is behind a mapping's end is not it.
  EXPECT_TRUE(absl::IsNotFound(table.Map({kHeap, 1 << 20}, heap_.data() + 4096, {})));
  // The heap is what it was.
  context_.rip = AddressOf(ring3_store);
  context_.rdi = kHeap;
  EXPECT_EQ(Run(table).reason, StopReason::kSystemCall);
  EXPECT_EQ(heap_.data()[0], 9);
}

TEST_F(Ring3, ThreadsRunInOneTableAtOnce) {
  PageTable table = MakeTable();
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      UserContext context;
      context.rip = kCode;
      context.rsp = kStack + 64 + 512 * number;
      context.rdi = number;
      for (std::uint64_t round = 1; round <= 2000; ++round) {
        const absl::StatusOr<Stop> stop = RunUser(context, table);
        ASSERT_TRUE(stop.ok() && stop->reason == StopReason::kSystemCall);
        ASSERT_EQ(context.rbx, number * round);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Ring3, AForkedChildHasNone) {
  PageTable table = MakeTable();
  Run(table);
  const pid_t child = fork();
  if (child == 0) {
    const bool refused = absl::IsFailedPrecondition(RunUser(context_, table).status()) &&
                         absl::IsFailedPrecondition(PageTable::Create(PageTable::Contents::kEmpty).status());
    _exit(refused ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Run(table).reason, StopReason::kSystemCall);
}

TEST_F(Ring3, ProvidingItAgainChangesNothing) { EXPECT_TRUE(dunebox::ProvideRing3().ok()); }

}  // namespace
}  // namespace dune
