#include "dune/trap.h"

#include <setjmp.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <thread>

#include "tests/libdune/entered.h"

namespace dune::testing {
namespace {

PageTable& Current() { return PageTable::Current(); }

// What a handler, which takes no arguments of the test's, was told and is to use.
struct Seen {
  std::atomic<int> calls{0};
  std::uintptr_t address = 0;
  Access access = Access::kRead;
  bool present = false;
  std::uint64_t vector = 0;
  std::uint64_t error = 0;
  std::uintptr_t stack = 0;
  std::string text;
};
Seen seen;
Range guarded;

Resolution OpenPage(PageFault& fault) {
  ++seen.calls;
  seen.address = fault.address;
  seen.access = fault.access;
  seen.present = fault.present;
  seen.vector = fault.frame.vector;
  seen.error = fault.frame.error;
  seen.stack = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (fault.address < guarded.begin || fault.address >= guarded.end()) return Resolution::kPass;
  const Range page{fault.address / kPageSize * kPageSize, kPageSize};
  return Current().Protect(page, Rights::kAll).ok() ? Resolution::kResume : Resolution::kPass;
}

class PageFaultTest : public Entered {
 protected:
  void SetUp() override {
    Entered::SetUp();
    if (!IsSkipped() && !GetCapabilities().page_fault_handler) {
      GTEST_SKIP() << "no capability page_fault_handler";
    }
    seen.calls = 0;
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_TRUE(SetPageFaultHandler(nullptr).ok());
  }
};

// The program's handler is there before: what is installed later would take the faults away.
TEST(BeforeEnter, WhatIsPassedOnGoesToTheProgramsOwnHandler) {
  if (CurrentBackend() != Backend::kNone) GTEST_SKIP() << "another case has entered";
  for (const HandlerKind kind : {HandlerKind::kFull, HandlerKind::kBrief}) {
    EXPECT_EQ(WEXITSTATUS(StatusOfChild([kind] {
                static void* expected = nullptr;
                static std::atomic<int> heard{0};
                signal(SIGUSR1, [](int) { ++heard; });
                struct sigaction action {};
                action.sa_flags = SA_SIGINFO;
                action.sa_sigaction = [](int, siginfo_t* info, void*) {
                  raise(SIGUSR1);  // nobody holds that back any more
                  _exit(info->si_addr == expected && seen.calls == 1 && heard == 1 ? 42 : 1);
                };
                sigaction(SIGSEGV, &action, nullptr);
                if (absl::IsUnavailable(Enter(WantedOptions()))) _exit(42);
                Pages pages(1, PROT_NONE);
                expected = pages.data();
                guarded = {};
                EXPECT_TRUE(SetPageFaultHandler(OpenPage, kind).ok());
                pages[0] = 1;
              })),
              42);
  }
}

// What the processor says: the error code's bit 0 present, 1 a write, 2 ring 3. [intel/vol3 §4.7]
std::uint64_t OfThisRing(std::uint64_t error) { return CurrentBackend() == Backend::kRing0 ? error : error | 4; }

TEST_F(PageFaultTest, AHandlerMendsAndTheProgramGoesOn) {
  Pages pages(2);
  guarded = pages.range();
  pages[1] = 1;  // so that there is a page
  ASSERT_TRUE(SetPageFaultHandler(OpenPage).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
  *(pages.data(1) + 123) = 'x';
  EXPECT_EQ(*(pages.data(1) + 123), 'x');
  EXPECT_EQ(seen.calls, 1);
  EXPECT_EQ(seen.address, pages.range(1, 1).begin + 123);
  EXPECT_EQ(seen.access, Access::kWrite);
  EXPECT_TRUE(seen.present);
  EXPECT_EQ(seen.vector, 14u);
  EXPECT_EQ(seen.error, OfThisRing(3));
  *(pages.data(1) + 5) = 'y';
  EXPECT_EQ(seen.calls, 1);
}

TEST_F(PageFaultTest, ReadsAndFetchesAreToldApart) {
  Pages pages(1);
  pages[0] = static_cast<char>(0xc3);  // RET
  guarded = pages.range();
  ASSERT_TRUE(SetPageFaultHandler(OpenPage).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kNone).ok());
  EXPECT_EQ(pages[0], static_cast<char>(0xc3));
  EXPECT_EQ(seen.access, Access::kRead);
  EXPECT_FALSE(seen.present);  // a page that may not even be read
  EXPECT_EQ(seen.error, OfThisRing(0));
  // The process itself never gave the right to execute.
  static const auto call = reinterpret_cast<void (*)()>(pages.data());
  ASSERT_TRUE(SetPageFaultHandler([](PageFault& fault) {
                seen.access = fault.access;
                std::uint64_t back = 0;
                std::memcpy(&back, reinterpret_cast<const void*>(fault.frame.rsp), sizeof(back));
                fault.frame.rip = back;
                fault.frame.rsp += sizeof(back);
                return Resolution::kResume;
              }).ok());
  call();
  EXPECT_EQ(seen.access, Access::kExecute);
}

TEST_F(PageFaultTest, ALightHandlerIsCalledAsWell) {
  Pages pages(1);
  static std::uint64_t value = 0;
  value = reinterpret_cast<std::uint64_t>(pages.data());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kNone).ok());
  ASSERT_TRUE(SetPageFaultHandler(
                  [](PageFault& fault) __attribute__((target("general-regs-only"))) {
                    fault.frame.rcx = reinterpret_cast<std::uint64_t>(&value);
                    return Resolution::kResume;
                  },
                  HandlerKind::kLight)
                  .ok());
  std::uint64_t read = 0;
  asm volatile("mov (%%rcx), %0" : "=r"(read) : "c"(pages.data()) : "memory");
  EXPECT_EQ(read, value);
}

TEST_F(PageFaultTest, AHandlerMayUseTheLibrary) {
  Pages pages(1);
  guarded = pages.range();
  ASSERT_TRUE(SetPageFaultHandler([](PageFault& fault) {
                std::vector<double> numbers(1000, 0.5);
                double sum = 0;
                for (const double number : numbers) sum += number;
                seen.text = "sum " + std::to_string(static_cast<int>(sum));
                return OpenPage(fault);
              }).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
  volatile double kept = 1.25;
  errno = 77;
  pages[0] = 1;
  EXPECT_EQ(errno, 77);
  EXPECT_EQ(kept, 1.25);
  EXPECT_EQ(seen.text, "sum 500");
}

TEST_F(PageFaultTest, AHandlerRunsOnAStackOfItsOwn) {
  Pages pages(1);
  guarded = pages.range();
  ASSERT_TRUE(SetPageFaultHandler(OpenPage).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
  pages[0] = 1;
  const auto here = reinterpret_cast<std::uintptr_t>(&pages);
  EXPECT_GT(here > seen.stack ? here - seen.stack : seen.stack - here, std::uintptr_t{1} << 20);
}

TEST_F(PageFaultTest, WhatNobodyMendsEndsTheProcessAsBefore) {
  EXPECT_EQ(WTERMSIG(StatusOfChild([] {
              Pages pages(1, PROT_NONE);
              guarded = {};
              EXPECT_TRUE(SetPageFaultHandler(OpenPage).ok());
              pages[0] = 1;
            })),
            SIGSEGV);
}

TEST_F(PageFaultTest, ASignalThatSomebodySendsIsNoFault) {
  EXPECT_EQ(WTERMSIG(StatusOfChild([] {
              Pages pages(1);
              guarded = pages.range();
              EXPECT_TRUE(SetPageFaultHandler(OpenPage).ok());
              EXPECT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
              pages[0] = 1;  // so that a fault's traces are there
              if (seen.calls != 1) _exit(1);
              raise(SIGSEGV);
              _exit(2);
            })),
            SIGSEGV);
}

// Natively it has no effect either. A fault of the program's own ends it all the same.
TEST_F(PageFaultTest, ASignalThatIsSentAndIgnoredIsLost) {
  EXPECT_EQ(WTERMSIG(StatusOfChild([] {
              signal(SIGSEGV, SIG_IGN);
              Pages pages(1, PROT_NONE);
              guarded = {};
              EXPECT_TRUE(SetPageFaultHandler(OpenPage).ok());
              raise(SIGSEGV);
              if (seen.calls != 0) _exit(2);
              raise(SIGUSR1);
            })),
            SIGUSR1);
}

TEST_F(PageFaultTest, AHandlerMayFaultItselfFourDeep) {
  static std::optional<Pages> pages;
  Pages& memory = pages.emplace(8);
  guarded = memory.range();
  const auto deeper = [](PageFault& fault) {
    const std::size_t page = (fault.address - guarded.begin) / kPageSize;
    if (page < 3) (*pages)[page + 1] = 1;
    return OpenPage(fault);
  };
  ASSERT_TRUE(SetPageFaultHandler(deeper).ok());
  ASSERT_TRUE(Current().Protect(memory.range(), Rights::kRead).ok());
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(Current().Protect(memory.range(), Rights::kRead).ok());
    memory[0] = 1;
    EXPECT_EQ(seen.calls, 4 * (round + 1));
  }
  EXPECT_EQ(WTERMSIG(StatusOfChild([&] {
              const rlimit no_core{0, 0};
              setrlimit(RLIMIT_CORE, &no_core);
              EXPECT_TRUE(SetPageFaultHandler([](PageFault& fault) {
                            const std::size_t page = (fault.address - guarded.begin) / kPageSize;
                            if (page < 7) (*pages)[page + 1] = 1;
                            return OpenPage(fault);
                          }).ok());
              EXPECT_TRUE(Current().Protect(memory.range(), Rights::kRead).ok());
              memory[0] = 1;
            })),
            SIGSEGV);
  pages.reset();
}

TEST_F(PageFaultTest, AHandlerMayBeLeftBySiglongjmp) {
  Pages pages(1);
  static sigjmp_buf back;
  ASSERT_TRUE(SetPageFaultHandler([](PageFault&) -> Resolution {
                ++seen.calls;
                siglongjmp(back, 1);
              }).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
  while (seen.calls < 10) {
    if (sigsetjmp(back, 1) == 0) pages[0] = 1;
  }
  // Those that were left do not count among the four.
  guarded = pages.range();
  ASSERT_TRUE(SetPageFaultHandler(OpenPage).ok());
  pages[0] = 2;
  EXPECT_EQ(pages[0], 2);
}

// In ring 0 they may come at any time.
TEST_F(PageFaultTest, SignalsWaitForABriefHandlerOnly) {
  Pages pages(1);
  guarded = pages.range();
  static std::atomic<int> heard;
  static int heard_inside;
  const auto before = signal(SIGUSR1, [](int) { ++heard; });
  for (const HandlerKind kind : {HandlerKind::kFull, HandlerKind::kBrief, HandlerKind::kFull}) {
    heard = 0;
    ASSERT_TRUE(SetPageFaultHandler([](PageFault& fault) {
                  raise(SIGUSR1);
                  heard_inside = heard;
                  return OpenPage(fault);
                }, kind).ok());
    ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
    pages[0] = 1;
    EXPECT_EQ(heard, 1);
    if (CurrentBackend() == Backend::kSoftware) {
      EXPECT_EQ(heard_inside, kind == HandlerKind::kFull ? 1 : 0);
    }
  }
  signal(SIGUSR1, before);
}

// A handler of signals that changes rights itself, whatever it has interrupted.
TEST_F(PageFaultTest, SignalsMeetAHandlerThatChangesRights) {
  static std::optional<Pages> others;
  others.emplace(1);
  Pages pages(1);
  guarded = pages.range();
  const auto before = signal(SIGUSR1, [](int) {
    (void)Current().Protect(others->range(), Rights::kRead);
    (void)Current().Protect(others->range(), Rights::kAll);
  });
  for (const HandlerKind kind : {HandlerKind::kFull, HandlerKind::kBrief}) {
    ASSERT_TRUE(SetPageFaultHandler(OpenPage, kind).ok());
    const int rounds = CurrentBackend() == Backend::kSoftware ? 2000 : 50;
    seen.calls = 0;
    std::atomic<bool> is_over{false};
    // One for each round: a flood would leave the rounds no time.
    std::thread sender([&is_over, to = pthread_self()] {
      for (int sent_at = -1; !is_over; sched_yield()) {
        if (const int calls = seen.calls; calls != sent_at) {
          pthread_kill(to, SIGUSR1);
          sent_at = calls;
        }
      }
    });
    for (int round = 1; round <= rounds; ++round) {
      if (!Current().Protect(pages.range(), Rights::kRead).ok()) break;
      pages[0] = 1;
      if (seen.calls != round) break;
    }
    is_over = true;
    sender.join();
    EXPECT_EQ(seen.calls, rounds);
  }
  signal(SIGUSR1, before);
  others.reset();
}

TEST_F(PageFaultTest, ThreadsFaultAtOnce) {
  Pages pages(256);
  guarded = pages.range();
  ASSERT_TRUE(SetPageFaultHandler([](PageFault& fault) {
                const Range page{fault.address / kPageSize * kPageSize, kPageSize};
                ++seen.calls;
                return Current().Protect(page, Rights::kAll).ok() ? Resolution::kResume
                                                                  : Resolution::kPass;
              }).ok());
  ASSERT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t page = 0; page < 256; ++page) *(pages.data(page) + thread) = 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(seen.calls, 256);
  for (std::size_t page = 0; page < 256; ++page) {
    EXPECT_EQ(std::string(pages.data(page), 4), std::string(4, '\1')) << page;
  }
}

TEST_F(PageFaultTest, AThreadThatHasLeftFaultsAsBefore) {
  if (CurrentBackend() == Backend::kRing0) GTEST_SKIP() << "it uses the kernel's tables";
  EXPECT_EQ(WTERMSIG(StatusOfChild([] {
              Pages pages(1);
              guarded = pages.range();
              EXPECT_TRUE(SetPageFaultHandler(OpenPage).ok());
              EXPECT_TRUE(Current().Protect(pages.range(), Rights::kRead).ok());
              if (!Leave().ok()) _exit(1);
              pages[0] = 1;
            })),
            SIGSEGV);
}

TEST_F(PageFaultTest, AStackThatHasEndedIsAFaultLikeOthers) {
  EXPECT_EQ(WEXITSTATUS(StatusOfChild([] {
              EXPECT_TRUE(SetPageFaultHandler([](PageFault&) -> Resolution { _exit(43); }).ok());
              asm volatile("xor %%esp, %%esp; push %%rax" ::: "memory");
            })),
            43);
}

class VectorTest : public Entered {
 protected:
  static bool Has(unsigned vector) { return (GetCapabilities().trap_vectors >> vector & 1) != 0; }
};

TEST_F(VectorTest, AHandlerStepsOverADivision) {
  if (!Has(0)) GTEST_SKIP() << "no vector 0";
  ASSERT_TRUE(SetTrapHandler(0, [](TrapFrame& frame) {
                seen.vector = frame.vector;
                frame.rip += 2;  // DIV %ecx
                frame.rax = 11;
                return Resolution::kResume;
              }).ok());
  std::uint32_t result = 1;
  asm volatile("div %1" : "+a"(result) : "c"(0), "d"(0) : "cc");
  EXPECT_EQ(result, 11u);
  EXPECT_EQ(seen.vector, 0u);
  EXPECT_TRUE(SetTrapHandler(0, nullptr).ok());
}

TEST_F(VectorTest, InstructionsThatAreNoneCanBeServed) {
  if (!Has(6)) GTEST_SKIP() << "no vector 6";
  ASSERT_TRUE(SetTrapHandler(6, [](TrapFrame& frame) {
                frame.rip += 2;  // UD2
                frame.rbx ^= frame.rcx;
                return Resolution::kResume;
              }).ok());
  std::uint64_t value = 5;
  asm volatile("ud2" : "+b"(value) : "c"(6));
  EXPECT_EQ(value, 3u);
  EXPECT_TRUE(SetTrapHandler(6, nullptr).ok());
}

TEST_F(VectorTest, VectorsOfOneSignalAreToldApart) {
  if (!Has(13)) GTEST_SKIP() << "no vector 13";
  static std::uint64_t good = 99;
  ASSERT_TRUE(SetTrapHandler(13, [](TrapFrame& frame) {
                seen.vector = frame.vector;
                frame.rcx = reinterpret_cast<std::uint64_t>(&good);
                return Resolution::kResume;
              }).ok());
  std::uint64_t read = 0;
  asm volatile("mov (%%rcx), %0" : "=r"(read) : "c"(0x8000'0000'0000'0000ull) : "memory");
  EXPECT_EQ(read, 99u);
  EXPECT_EQ(seen.vector, 13u);
  // A page fault is not this handler's.
  EXPECT_EQ(WTERMSIG(StatusOfChild([] {
              Pages pages(1, PROT_NONE);
              pages[0] = 1;
            })),
            SIGSEGV);
  EXPECT_TRUE(SetTrapHandler(13, nullptr).ok());
}

// Each by an instruction; RCX is where it goes on. `signal` is what Linux makes of it.
struct Raised {
  unsigned vector;
  int signal;
  const char* what;
  void (*raise)();
};
constexpr Raised kRaised[] = {
    {1, SIGTRAP, "a single step",
     [] { asm volatile("lea 1f(%%rip), %%rcx; pushfq; orl $0x100, (%%rsp); popfq; nop; nop; 1:" ::: "rcx", "memory", "cc"); }},
    {3, SIGTRAP, "a breakpoint", [] { asm volatile("lea 1f(%%rip), %%rcx; int3; 1:" ::: "rcx", "memory"); }},
    {12, SIGBUS, "a stack address that is none",
     [] {
       asm volatile("lea 1f(%%rip), %%rcx; mov %%rbp, %%rdx; mov %0, %%rbp; mov (%%rbp), %%eax; 1: mov %%rdx, %%rbp" ::"r"(
                        std::uint64_t{1} << 63)
                    : "rcx", "rdx", "rax", "memory");
     }},
    {16, SIGFPE, "an x87 division by 0",
     [] {
       const std::uint16_t unmasked = 0x037b;
       asm volatile("fninit; fldcw %0; lea 1f(%%rip), %%rcx; fld1; fldz; fdivrp; fwait; 1: fninit" ::"m"(unmasked)
                    : "rcx", "memory", "st", "st(1)");
     }},
    {17, SIGBUS, "an unaligned access",
     [] {
       alignas(8) static char bytes[16];
       asm volatile("lea 1f(%%rip), %%rcx; pushfq; orl $0x40000, (%%rsp); popfq; mov 1(%0), %%eax; 1:" ::"r"(bytes)
                    : "rcx", "rax", "memory", "cc");
     }},
    {19, SIGFPE, "a vector division by 0",
     [] {
       const std::uint32_t unmasked = 0x1d80, masked = 0x1f80;
       asm volatile("ldmxcsr %0; lea 1f(%%rip), %%rcx; xorps %%xmm1, %%xmm1; mov $0x3f800000, %%eax; movd %%eax, %%xmm0\n"
                    "divss %%xmm1, %%xmm0; 1: ldmxcsr %1" ::"m"(unmasked), "m"(masked)
                    : "rcx", "rax", "xmm0", "xmm1", "memory");
     }},
};

// The lab's emulated processor knows neither #SS by an address nor exceptions of vector arithmetic. Asked before main, so natively.
const std::uint32_t kRaisedNatively = [] {
  std::uint32_t vectors = 0;
  for (const Raised& raised : kRaised) {
    if (WTERMSIG(StatusOfChild(raised.raise)) == raised.signal) vectors |= std::uint32_t{1} << raised.vector;
  }
  return vectors;
}();

TEST_F(VectorTest, EachIsRaisedAndHandled) {
  static std::uint64_t vector;
  constexpr std::uint64_t kTrapAndAlignment = 0x40100;
  constexpr std::uint32_t kEverywhere = 1u << 1 | 1u << 3 | 1u << 16;
  EXPECT_EQ(kRaisedNatively & kEverywhere, kEverywhere);
  for (const Raised& raised : kRaised) {
    // Alignment is checked in ring 3 only.
    if (!Has(raised.vector) || (raised.vector == 17 && CurrentBackend() == Backend::kRing0)) continue;
    if ((kRaisedNatively >> raised.vector & 1) == 0) {
      std::printf("this processor does not raise %s\n", raised.what);
      continue;
    }
    for (const HandlerKind kind : {HandlerKind::kFull, HandlerKind::kLight}) {
      vector = 99;
      ASSERT_TRUE(SetTrapHandler(raised.vector, [](TrapFrame& frame) __attribute__((target("general-regs-only"))) {
                    vector = frame.vector;
                    frame.rip = frame.rcx;
                    frame.rflags &= ~kTrapAndAlignment;
                    return Resolution::kResume;
                  }, kind).ok()) << raised.what;
      raised.raise();
      EXPECT_EQ(vector, raised.vector) << raised.what;
    }
    EXPECT_TRUE(SetTrapHandler(raised.vector, nullptr).ok());
  }
}

// Who asked for alignment checks did not ask for them in the handler's code, nor in what hands it its frame.
TEST_F(VectorTest, AHandlerRunsWithoutAlignmentChecks) {
  constexpr std::uint64_t kAlignmentCheck = 0x40000;
  if (!Has(6)) GTEST_SKIP() << "no vector 6";
  ASSERT_TRUE(SetTrapHandler(6, [](TrapFrame& frame) {
                alignas(8) char bytes[16] = {0, 5};
                asm volatile("mov 1(%1), %%ebx" : "=b"(frame.rbx) : "r"(bytes) : "memory");
                frame.rip += 2;  // UD2
                frame.rax = frame.rflags;
                frame.rflags &= ~kAlignmentCheck;
                return Resolution::kResume;
              }).ok());
  std::uint64_t value = 0, flags = 0;
  asm volatile("pushfq; orl $0x40000, (%%rsp); popfq; ud2" : "+b"(value), "=a"(flags)::"memory", "cc");
  EXPECT_EQ(value, 5u);
  EXPECT_NE(flags & kAlignmentCheck, 0u);
  EXPECT_TRUE(SetTrapHandler(6, nullptr).ok());
}

#define EACH_REGISTER(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
#define CLOBBER(n) "vpcmpeqd %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n"
#define LOAD(n) "vmovdqa 32*" #n "(%[given]), %%ymm" #n "\n"
#define STORE(n) "vmovdqa %%ymm" #n ", 32*" #n "(%[found])\n"

TEST_F(VectorTest, AFullHandlerLeavesVectorRegistersAndX87AsTheyWere) {
  if (!Has(6)) GTEST_SKIP() << "no vector 6";
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "no AVX";
  static std::uint16_t control;
  static std::uint32_t mxcsr;
  ASSERT_TRUE(SetTrapHandler(6, [](TrapFrame& frame) {
                asm volatile("fnstcw %0; stmxcsr %1" : "=m"(control), "=m"(mxcsr));
                asm volatile(EACH_REGISTER(CLOBBER) "fninit; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fldz; emms" ::: "memory");
                frame.rip += 2;
                return Resolution::kResume;
              }).ok());
  alignas(32) std::uint32_t given[16][8], found[16][8] = {};
  for (unsigned index = 0; index < 16; ++index) {
    for (unsigned part = 0; part < 8; ++part) given[index][part] = 0x100 * index + part + 1;
  }
  const std::uint16_t double_precision = 0x027f, standard = 0x037f;
  const std::uint32_t to_zero = 0x7f80, nearest = 0x1f80;
  double top = 0;
  std::uint16_t control_after = 0;
  std::uint32_t mxcsr_after = 0;
  asm volatile("fldcw %[double_precision]; ldmxcsr %[to_zero]; fld1\n" EACH_REGISTER(LOAD) "ud2\n" EACH_REGISTER(STORE)
               "vzeroupper; fstpl %[top]; fnstcw %[control_after]; stmxcsr %[mxcsr_after]; fldcw %[standard]; ldmxcsr %[nearest]"
               : [top] "=m"(top), [control_after] "=m"(control_after), [mxcsr_after] "=m"(mxcsr_after)
               : [given] "r"(given), [found] "r"(found), [double_precision] "m"(double_precision), [standard] "m"(standard),
                 [to_zero] "m"(to_zero), [nearest] "m"(nearest)
               : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                 "xmm12", "xmm13", "xmm14", "xmm15");
  EXPECT_EQ(std::memcmp(given, found, sizeof(given)), 0);
  EXPECT_EQ(top, 1);
  EXPECT_EQ(control_after, double_precision);
  EXPECT_EQ(mxcsr_after, to_zero);
  // And what it begins with is the ABI's.
  EXPECT_EQ(control, standard);
  EXPECT_EQ(mxcsr, nearest);
  EXPECT_TRUE(SetTrapHandler(6, nullptr).ok());
}

TEST_F(VectorTest, AVectorGivenBackEndsTheProcessAgain) {
  if (!Has(6)) GTEST_SKIP() << "no vector 6";
  ASSERT_TRUE(SetTrapHandler(6, [](TrapFrame&) { return Resolution::kResume; }).ok());
  ASSERT_TRUE(SetTrapHandler(6, nullptr).ok());
  EXPECT_EQ(WTERMSIG(StatusOfChild([] { asm volatile("ud2"); })), SIGILL);
}

TEST_F(VectorTest, SomeVectorsAreNobodysAndSomeNotTheBackends) {
  const TrapHandler handler = [](TrapFrame&) { return Resolution::kPass; };
  for (const unsigned vector : {2u, 8u, 14u, 18u, 32u, 1000u}) {
    EXPECT_TRUE(absl::IsInvalidArgument(SetTrapHandler(vector, handler))) << vector;
  }
  for (unsigned vector = 0; vector < 32; ++vector) {
    if (Has(vector) || vector == 2 || vector == 8 || vector == 14 || vector == 18) continue;
    EXPECT_TRUE(absl::IsUnimplemented(SetTrapHandler(vector, handler))) << vector;
  }
}

}  // namespace
}  // namespace dune::testing
