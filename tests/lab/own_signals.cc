// Signal handlers, alternate stacks and clocks by their numbers, which ring 0 answers: right every time, while
// signals strike, faults come, and threads and children do the same. Also right natively. Says nothing and exits 0
// when all is well; with the argument `default` it says whether SIGUSR1 is left to its default.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <thread>

namespace {

int failures = 0;

void Expect(bool right, const char* what, long detail = 0) {
  if (right) return;
  ++failures;
  fprintf(stderr, "wrong: %s (%ld, errno %d)\n", what, detail, errno);
}
bool Fails(long result, int error) { return result == -1 && errno == error; }
void* At(std::uint64_t address) { return reinterpret_cast<void*>(address); }

// As the kernel has it; glibc adds the restorer to what programs set.
struct Action {
  void* handler;
  std::uint64_t flags;
  void* restorer;
  std::uint64_t mask;
};
constexpr std::uint64_t kRestorer = 0x0400'0000;
void* restorer = nullptr;

long ActionCall(int signal, const void* action, void* old, std::size_t size = 8) {
  return syscall(SYS_rt_sigaction, signal, action, old, size);
}
constexpr std::uint64_t Bit(int signal) { return std::uint64_t{1} << (signal - 1); }

volatile sig_atomic_t firsts = 0, seconds = 0;
volatile std::uint64_t stack_seen = 0;
void First(int) {
  firsts = firsts + 1;
  int local = 0;
  stack_seen = reinterpret_cast<std::uint64_t>(&local);
}
void Second(int) { seconds = seconds + 1; }

Action With(void (*handler)(int), std::uint64_t flags = 0, std::uint64_t mask = 0) {
  return {reinterpret_cast<void*>(handler), flags | kRestorer, restorer, mask};
}
Action Now(int signal) {
  Action now{};
  Expect(ActionCall(signal, nullptr, &now) == 0, "rt_sigaction that asks", signal);
  return now;
}
bool IsSame(const Action& a, const Action& b) {
  return a.handler == b.handler && a.flags == b.flags && a.restorer == b.restorer && a.mask == b.mask;
}

void HandlersTakeTurns() {
  Expect(signal(SIGUSR1, First) != SIG_ERR, "signal");
  restorer = Now(SIGUSR1).restorer;
  const Action first = With(First, 0, Bit(SIGUSR2)), second = With(Second, SA_NODEFER);
  Expect(ActionCall(SIGUSR1, &first, nullptr) == 0, "the first handler");
  for (int round = 0; round < 10'000; ++round) {
    Action old{};
    const bool even = round % 2 == 0;
    Expect(ActionCall(SIGUSR1, even ? &second : &first, &old) == 0, "another handler", round);
    Expect(IsSame(old, even ? first : second), "the one before", round);
    if (round % 50 != 0) continue;
    Expect(IsSame(Now(SIGUSR1), even ? second : first), "the one that is there", round);
    const int before = even ? seconds : firsts;
    kill(getpid(), SIGUSR1);
    Expect((even ? seconds : firsts) == before + 1, "who was called", round);
  }
  // Both at one place.
  Action both = second;
  Expect(ActionCall(SIGUSR1, &both, &both) == 0 && IsSame(both, first), "old over new");
  Action all = With(First, 0, ~std::uint64_t{0});
  Expect(ActionCall(SIGUSR1, &all, nullptr) == 0, "a full mask");
  Expect(Now(SIGUSR1).mask == ~(Bit(SIGKILL) | Bit(SIGSTOP)), "what nobody blocks");
}

// To and from what the host has to know.
void OtherDispositionsAsEver() {
  const Action first = With(First), ignored{At(1), 0, nullptr, 0}, usual{};
  Expect(ActionCall(SIGUSR1, &ignored, nullptr) == 0, "ignored");
  kill(getpid(), SIGUSR1);
  Expect(ActionCall(SIGUSR1, &first, nullptr) == 0, "handled again");
  const int before = firsts;
  kill(getpid(), SIGUSR1);
  Expect(firsts == before + 1, "a handler after SIG_IGN");
  const Action once = With(First, SA_RESETHAND);
  Expect(ActionCall(SIGUSR2, &first, nullptr) == 0, "another signal");
  Expect(ActionCall(SIGUSR2, &once, nullptr) == 0, "a handler for once");
  kill(getpid(), SIGUSR2);
  Expect(Now(SIGUSR2).handler == nullptr, "which is gone then");
  Expect(ActionCall(SIGCHLD, &usual, nullptr) == 0, "default");
  // Whether a call is made again is the host's business.
  int ends[2];
  Expect(pipe(ends) == 0, "pipe");
  for (const bool restarts : {true, false}) {
    const Action action = With(First, restarts ? SA_RESTART : 0);
    Expect(ActionCall(SIGALRM, &first, nullptr) == 0 && ActionCall(SIGALRM, &action, nullptr) == 0, "SIGALRM");
    const pid_t child = fork();
    if (child == 0) {
      usleep(300'000);
      _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
    }
    // One that comes before the call has begun is not the last.
    const itimerval soon{.it_interval = {.tv_sec = 0, .tv_usec = 50'000}, .it_value = {.tv_sec = 0, .tv_usec = 50'000}}, never{};
    setitimer(ITIMER_REAL, &soon, nullptr);
    char byte = 0;
    const long got = read(ends[0], &byte, 1);
    setitimer(ITIMER_REAL, &never, nullptr);
    Expect(restarts ? got == 1 : Fails(got, EINTR), "a call that a signal ends", restarts);
    waitpid(child, nullptr, 0);
    if (!restarts) Expect(read(ends[0], &byte, 1) == 1, "what was written");
  }
  close(ends[0]);
  close(ends[1]);
}

void BadArgumentsFailAsEver() {
  const Action first = With(First);
  Action old{};
  Expect(Fails(ActionCall(SIGUSR1, &first, nullptr, 16), EINVAL), "size");
  for (const int signal : {0, -1, 65, 1 << 30}) {
    Expect(Fails(ActionCall(signal, nullptr, &old), EINVAL), "a number that is no signal's", signal);
  }
  for (const int signal : {SIGKILL, SIGSTOP}) {
    Expect(Fails(ActionCall(signal, &first, nullptr), EINVAL), "a handler for that", signal);
    Expect(ActionCall(signal, nullptr, &old) == 0 && old.handler == nullptr, "asked about", signal);
  }
  auto* pages = static_cast<char*>(
      mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(pages + 4096, 4096);
  mprotect(pages + 8192, 4096, PROT_READ);
  const std::uint64_t hole = reinterpret_cast<std::uint64_t>(pages) + 4096;
  for (const std::uint64_t bad :
       {std::uint64_t{8}, std::uint64_t{0x3fff'ffff'fff8}, std::uint64_t{0x4000'0000'0000},
        std::uint64_t{0xffff'ff80'0000'9000}, ~std::uint64_t{0} - 7, hole, hole - 8}) {
    const Action before = Now(SIGUSR1);
    Expect(Fails(ActionCall(SIGUSR1, At(bad), nullptr), EFAULT), "a bad action");
    Expect(Fails(ActionCall(SIGUSR1, nullptr, At(bad)), EFAULT), "a bad place for the old one");
    Expect(IsSame(Now(SIGUSR1), before), "as it was");
    Expect(Fails(syscall(SYS_sigaltstack, bad, nullptr), EFAULT), "a bad stack_t");
    Expect(Fails(syscall(SYS_sigaltstack, nullptr, bad), EFAULT), "a bad place for one");
    Expect(Fails(syscall(SYS_clock_gettime, CLOCK_REALTIME, bad), EFAULT), "a bad place for a time");
    Expect(Fails(syscall(SYS_gettimeofday, bad, nullptr), EFAULT), "a bad timeval");
  }
  Expect(Fails(syscall(SYS_time, hole), EFAULT), "a bad place for seconds");
  Expect(Fails(syscall(SYS_sigaltstack, nullptr, pages + 8192), EFAULT), "read-only memory");
  Expect(Fails(syscall(SYS_clock_gettime, CLOCK_TAI, pages + 8192), EFAULT), "the same");
  // Not aligned.
  Expect(ActionCall(SIGUSR1, nullptr, pages + 4) == 0, "not aligned");
  Expect(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, pages + 4) == 0, "not aligned");
  // A page that nobody has touched.
  auto* fresh = static_cast<char*>(
      mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Expect(ActionCall(SIGUSR1, nullptr, fresh + 4096 - 16) == 0, "across two fresh pages");
  Action across{};
  memcpy(&across, fresh + 4096 - 16, sizeof(across));
  Expect(IsSame(across, Now(SIGUSR1)), "what was written there");
}

volatile sig_atomic_t faults = 0;
char* forbidden = nullptr;
void OnFault(int) {
  faults = faults + 1;
  int local = 0;
  stack_seen = reinterpret_cast<std::uint64_t>(&local);
  mprotect(forbidden, 4096, PROT_READ | PROT_WRITE);
}
volatile sig_atomic_t other_faults = 0;
void OnFaultToo(int signal) {
  other_faults = other_faults + 1;
  OnFault(signal);
}

void Touch() {
  mprotect(forbidden, 4096, PROT_NONE);
  *static_cast<volatile char*>(forbidden) = 1;
}

// The page is one that ring 0 may have, with the faults there.
void FaultsReachWhoeverHandlesThem() {
  const Action plain = With(OnFault), other = With(OnFaultToo), on_stack = With(OnFault, SA_ONSTACK);
  Expect(signal(SIGSEGV, OnFault) != SIG_ERR, "signal");
  forbidden = static_cast<char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (int round = 0; round < 300; ++round) {
    const bool even = round % 2 == 0;
    Expect(ActionCall(SIGSEGV, even ? &plain : &other, nullptr) == 0, "SIGSEGV", round);
    const int before = faults, before_other = other_faults;
    Touch();
    Touch();
    Expect(faults == before + 2, "both faults", round);
    Expect(other_faults == before_other + (even ? 0 : 2), "which handler", round);
  }
  static char stacks[2][16384];
  Expect(ActionCall(SIGSEGV, &on_stack, nullptr) == 0, "SIGSEGV on a stack");
  for (int round = 0; round < 200; ++round) {
    char* const base = stacks[round % 2];
    const stack_t stack{.ss_sp = base, .ss_flags = 0, .ss_size = sizeof(stacks[0])};
    Expect(syscall(SYS_sigaltstack, &stack, nullptr) == 0, "sigaltstack", round);
    Touch();
    Touch();
    const std::uint64_t place = stack_seen - reinterpret_cast<std::uint64_t>(base);
    Expect(place < sizeof(stacks[0]), "the handler's stack", round);
  }
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  Expect(syscall(SYS_sigaltstack, &none, nullptr) == 0, "no stack");
  Touch();
  const auto here = reinterpret_cast<std::uint64_t>(&none);
  Expect(here - stack_seen < 1 << 20, "on this one then");
  signal(SIGSEGV, SIG_DFL);
}

stack_t seen_inside;
long from_inside = 0;
void AskInside(int) {
  from_inside = syscall(SYS_sigaltstack, nullptr, &seen_inside);
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  if (!Fails(syscall(SYS_sigaltstack, &none, nullptr), EPERM)) from_inside = 1;
}

void StacksAreKept() {
  static char memory[16384];
  stack_t old{};
  const stack_t stack{.ss_sp = memory, .ss_flags = 0, .ss_size = sizeof(memory)};
  const stack_t small{.ss_sp = memory, .ss_flags = 0, .ss_size = 2047};
  const stack_t odd{.ss_sp = memory, .ss_flags = 7, .ss_size = sizeof(memory)};
  const stack_t said{.ss_sp = memory, .ss_flags = SS_ONSTACK, .ss_size = sizeof(memory)};
  Expect(syscall(SYS_sigaltstack, nullptr, &old) == 0 && old.ss_flags == SS_DISABLE, "none at first");
  Expect(syscall(SYS_sigaltstack, &stack, &old) == 0 && old.ss_flags == SS_DISABLE, "the old one: none");
  Expect(Fails(syscall(SYS_sigaltstack, &small, nullptr), ENOMEM), "a small one");
  Expect(Fails(syscall(SYS_sigaltstack, &odd, nullptr), EINVAL), "odd flags");
  for (int round = 0; round < 2'000; ++round) {
    old = {};
    Expect(syscall(SYS_sigaltstack, &said, &old) == 0, "sigaltstack", round);
    Expect(old.ss_sp == memory && old.ss_flags == 0 && old.ss_size == sizeof(memory), "the old one", round);
  }
  const Action inside = With(AskInside, SA_ONSTACK);
  Expect(ActionCall(SIGUSR1, &inside, nullptr) == 0, "a handler on the stack");
  kill(getpid(), SIGUSR1);
  Expect(from_inside == 0 && seen_inside.ss_flags == SS_ONSTACK && seen_inside.ss_sp == memory, "while on it");
  // Each thread has its own.
  std::thread([] {
    stack_t mine{};
    Expect(syscall(SYS_sigaltstack, nullptr, &mine) == 0 && mine.ss_flags == SS_DISABLE, "a thread's");
  }).join();
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  Expect(syscall(SYS_sigaltstack, &none, &old) == 0 && old.ss_sp == memory, "given back");
}

int StatusOf(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

void ThreadsAndChildren(const char* self) {
  const Action first = With(First), second = With(Second);
  Expect(ActionCall(SIGUSR1, &first, nullptr) == 0 && ActionCall(SIGUSR1, &second, nullptr) == 0, "by us");
  std::thread([&] {
    Expect(IsSame(Now(SIGUSR1), second), "seen by a thread");
    Expect(ActionCall(SIGUSR1, &first, nullptr) == 0, "by a thread");
  }).join();
  Expect(IsSame(Now(SIGUSR1), first), "seen after the thread");
  Expect(ActionCall(SIGUSR1, &second, nullptr) == 0, "by us again");
  const pid_t child = fork();
  if (child == 0) {
    if (!IsSame(Now(SIGUSR1), second)) _exit(1);
    if (ActionCall(SIGUSR1, &first, nullptr) != 0 || !IsSame(Now(SIGUSR1), first)) _exit(2);
    execl(self, self, "default", nullptr);
    _exit(127);
  }
  Expect(StatusOf(child) == 0, "a forked child, and what it executes");
  Expect(IsSame(Now(SIGUSR1), second), "not what the child has set");
  const pid_t vforked = vfork();
  if (vforked == 0) {
    const Action here = With(First, SA_NODEFER);
    _exit(ActionCall(SIGUSR1, &here, nullptr) == 0 && IsSame(Now(SIGUSR1), here) ? 0 : 1);
  }
  Expect(StatusOf(vforked) == 0, "a vforked child");
  Expect(IsSame(Now(SIGUSR1), second), "not what that has set");
}

// A timer strikes wherever it likes.
void UnderATimer() {
  const Action first = With(First), second = With(Second);
  Expect(signal(SIGALRM, First) != SIG_ERR, "signal");
  const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 5'000},
                        .it_value = {.tv_sec = 0, .tv_usec = 5'000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  const int before = firsts + seconds;
  timespec last{};
  for (int round = 0; round < 5'000 || (firsts + seconds < before + 5 && round < 20'000'000); ++round) {
    const bool even = round % 2 == 0;
    Expect(ActionCall(SIGALRM, even ? &first : &second, nullptr) == 0, "SIGALRM", round);
    timespec now{};
    Expect(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0, "clock_gettime", round);
    Expect(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec),
           "time runs on", round);
    last = now;
  }
  Expect(firsts + seconds >= before + 5, "the timer was heard");
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
}

std::int64_t Nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

void ClocksAgree() {
  for (const clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                                CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID,
                                CLOCK_THREAD_CPUTIME_ID}) {
    for (int round = 0; round < 200; ++round) {
      timespec before{}, between{}, after{};
      Expect(clock_gettime(clock, &before) == 0, "clock_gettime", clock);
      Expect(syscall(SYS_clock_gettime, clock, &between) == 0, "clock_gettime by its number", clock);
      Expect(clock_gettime(clock, &after) == 0, "clock_gettime", clock);
      Expect(Nanoseconds(before) <= Nanoseconds(between) && Nanoseconds(between) <= Nanoseconds(after),
             "a clock between", clock);
      Expect(between.tv_nsec >= 0 && between.tv_nsec < 1'000'000'000, "a fraction of a second", clock);
    }
  }
  for (const clockid_t clock : {12, 16, 31, 32, 99}) {
    timespec none{};
    Expect(Fails(syscall(SYS_clock_gettime, clock, &none), EINVAL), "no clock", clock);
  }
  for (int round = 0; round < 200; ++round) {
    timeval before{}, between{}, after{};
    gettimeofday(&before, nullptr);
    Expect(syscall(SYS_gettimeofday, &between, nullptr) == 0, "gettimeofday by its number");
    gettimeofday(&after, nullptr);
    const auto of = [](const timeval& time) { return time.tv_sec * 1'000'000 + time.tv_usec; };
    Expect(of(before) <= of(between) && of(between) <= of(after), "the time of day between", round);
    Expect(between.tv_usec >= 0 && between.tv_usec < 1'000'000, "microseconds", round);
    time_t written = 0;
    const long early = time(nullptr), told = syscall(SYS_time, &written), late = syscall(SYS_time, nullptr);
    Expect(early <= told && told == written && told <= late, "seconds", round);
  }
  struct timezone zone{};
  Expect(syscall(SYS_gettimeofday, nullptr, &zone) == 0 && syscall(SYS_gettimeofday, nullptr, nullptr) == 0,
         "gettimeofday of nothing");
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1) return Now(SIGUSR1).handler == nullptr ? 0 : 1;
  HandlersTakeTurns();
  OtherDispositionsAsEver();
  BadArgumentsFailAsEver();
  StacksAreKept();
  FaultsReachWhoeverHandlesThem();
  ThreadsAndChildren(arguments[0]);
  UnderATimer();
  ClocksAgree();
  return failures == 0 ? 0 : 1;
}
