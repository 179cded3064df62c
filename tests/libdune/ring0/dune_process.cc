// An ordinary program goes on in ring 0: libc, files, memory, threads, children, signals,
// exceptions. Run in the lab; the last line is "ring 0 works" when all of it did.
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "dune/dune.h"
#include "tests/libdune/ring0/expect.h"

namespace {

unsigned Ring() {
  unsigned long selector = 0;
  asm volatile("mov %%cs, %0" : "=r"(selector));
  return selector & 3;
}

void Say(const char* what) {
  std::printf("ok %s\n", what);
  std::fflush(stdout);
}

// ---- one thread
// ----------------------------------------------------------------------------------

void Library() {
  Expect(Ring() == 0, "the code selector says ring 0");
  unsigned long cr3 = 0;
  asm volatile("mov %%cr3, %0" : "=r"(cr3));
  Expect(cr3 != 0, "CR3 can be read");
  asm volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
  std::map<std::string, std::vector<int>> map;
  for (int i = 0; i < 2000; ++i) map[std::to_string(i % 97)].push_back(i);
  Expect(map["5"].size() == 21, "containers");
  char name[] = "/tmp/dune_process.XXXXXX";
  const int file = mkstemp(name);
  Expect(file >= 0 && write(file, "twelve bytes", 12) == 12, "a file is written");
  char text[16] = {};
  Expect(pread(file, text, sizeof(text), 0) == 12 && std::strcmp(text, "twelve bytes") == 0,
         "a file is read");
  void* const mapped = mmap(nullptr, 8192, PROT_READ, MAP_SHARED, file, 0);
  Expect(mapped != MAP_FAILED && std::memcmp(mapped, text, 12) == 0, "a file is mapped");
  munmap(mapped, 8192);
  close(file);
  unlink(name);
  std::timespec now{};
  Expect(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && now.tv_sec > 0, "the clock of the vDSO");
  Expect(std::fabs(std::sin(0.5) * std::sin(0.5) + std::cos(0.5) * std::cos(0.5) - 1) < 1e-12,
         "floating point");
  Say("libc");
}

long Exits() {
  char text[32] = {};
  const int file = open("/sys/kernel/debug/kvm/exits", O_RDONLY);
  Expect(file >= 0 && read(file, text, sizeof(text) - 1) > 0, "/sys/kernel/debug/kvm/exits");
  close(file);
  return std::atol(text);
}

// The timer's ticks are exits, too, so it is no exact number; two exits a call would be.
void OneExitACall() {
  constexpr long kCalls = 2000;
  const long nothing = Exits();
  const long before = Exits();
  for (long call = 0; call < kCalls; ++call) syscall(SYS_getppid);
  const long exits = Exits() - before - (before - nothing);
  std::printf("%ld exits for %ld system calls\n", exits, kCalls);
  Expect(exits > kCalls * 9 / 10 && exits < kCalls * 3 / 2, "a system call is one exit");
}

void DeepStack(int depth) {
  volatile char space[4096];
  space[0] = static_cast<char>(depth);
  if (depth > 0) DeepStack(depth - 1);
  Expect(space[0] == static_cast<char>(depth), "the stack keeps what it is given");
}

void Memory() {
  DeepStack(1000);
  constexpr std::size_t kBytes = 8 << 20;
  auto* const memory = static_cast<char*>(
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Expect(memory != MAP_FAILED, "mmap");
  for (std::size_t at = 0; at < kBytes; at += 4096) memory[at] = static_cast<char>(at >> 12);
  Expect(mprotect(memory, 4096, PROT_READ) == 0 && memory[0] == 0, "mprotect");
  Expect(madvise(memory + 4096, 4096, MADV_DONTNEED) == 0 && memory[4096] == 0, "madvise");
  Expect(mprotect(memory, 4096, PROT_READ | PROT_WRITE) == 0, "mprotect gives back");
  memory[0] = 1;
  auto* const moved = static_cast<char*>(mremap(memory, kBytes, 2 * kBytes, MREMAP_MAYMOVE));
  Expect(moved != MAP_FAILED && moved[8192] == 2 && moved[kBytes] == 0, "mremap");
  Expect(mmap(moved + 8192, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
              -1, 0) == moved + 8192 &&
             moved[8192] == 0,
         "MAP_FIXED replaces");
  Expect(munmap(moved, 2 * kBytes) == 0, "munmap");
  void* const end = sbrk(1 << 20);
  std::memset(end, 5, 1 << 20);
  Expect(sbrk(-(1 << 20)) != reinterpret_cast<void*>(-1), "brk");
  Say("memory");
}

// New memory, also a child's, while the program has no descriptor left; and nobody else has its lowest free number.
void Descriptors() {
  const auto touch_new_memory = [] {
    constexpr std::size_t kBytes = 4 << 20;
    auto* const memory =
        static_cast<volatile char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (std::size_t at = 0; at < kBytes; at += 4096) memory[at] = 1;
    munmap(const_cast<char*>(memory), kBytes);
  };
  std::atomic<bool> stop{false};
  std::thread faulting([&] {
    while (!stop) touch_new_memory();
  });
  const int lowest = dup(0);
  close(lowest);
  for (int round = 0; round < 300; ++round) {
    const int next = dup(0);
    Expect(next == lowest, "the lowest free descriptor");
    close(next);
  }
  stop = true;
  faulting.join();
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{64, before.rlim_max};
  Expect(setrlimit(RLIMIT_NOFILE, &few) == 0, "setrlimit");
  std::vector<int> all;
  all.reserve(64);
  for (int next = dup(0); next >= 0; next = dup(0)) all.push_back(next);
  Expect(errno == EMFILE, "EMFILE");
  touch_new_memory();
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    touch_new_memory();
    _exit(3);
  }
  Expect(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3, "a child without descriptors");
  for (const int descriptor : all) close(descriptor);
  setrlimit(RLIMIT_NOFILE, &before);
  Say("descriptors");
}

// ---- signals
// -------------------------------------------------------------------------------------

volatile sig_atomic_t seen_signal = 0;
volatile sig_atomic_t ring_in_handler = 9;
void* volatile fault_address = nullptr;
sigjmp_buf jump;

void Note(int signal, siginfo_t* info, void*) {
  seen_signal = signal;
  ring_in_handler = static_cast<int>(Ring());
  fault_address = info->si_addr;
}

void JumpOut(int signal, siginfo_t* info, void* context) {
  Note(signal, info, context);
  siglongjmp(jump, 1);
}

// Goes on two bytes further: behind UD2.
void SkipUd2(int signal, siginfo_t* info, void* context) {
  Note(signal, info, context);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
}

void Handle(int signal, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  Expect(sigaction(signal, &action, nullptr) == 0, "sigaction");
}

void Signals() {
  Handle(SIGUSR1, Note, 0);
  const double kept = std::sqrt(2.0);
  Expect(raise(SIGUSR1) == 0 && seen_signal == SIGUSR1 && ring_in_handler == 0,
         "a handler runs in ring 0");
  Expect(kept * kept > 1.999, "floating point is as before a handler");

  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  seen_signal = 0;
  sigprocmask(SIG_BLOCK, &set, &old);
  raise(SIGUSR1);
  Expect(seen_signal == 0, "a blocked signal waits");
  sigprocmask(SIG_SETMASK, &old, nullptr);
  Expect(seen_signal == SIGUSR1, "and comes when it is unblocked");

  // A timer stops code that makes no system calls, and a blocking one.
  Handle(SIGALRM, Note, 0);
  seen_signal = 0;
  ualarm(20'000, 0);
  while (seen_signal == 0) {
  }
  Expect(seen_signal == SIGALRM, "a signal stops a loop");
  ualarm(20'000, 20'000);  // one that comes before the call has begun is not the last
  Expect(pause() == -1 && errno == EINTR, "a signal ends pause");
  ualarm(0, 0);
  Handle(SIGALRM, Note, SA_RESTART);
  int ends[2];
  Expect(pipe(ends) == 0, "pipe");
  std::thread writer([&] {
    usleep(100'000);
    Expect(write(ends[1], "x", 1) == 1, "the pipe is written");
  });
  sigset_t alarm_alone;
  sigemptyset(&alarm_alone);
  sigaddset(&alarm_alone, SIGALRM);
  ualarm(20'000, 0);
  char byte = 0;
  Expect(read(ends[0], &byte, 1) == 1 && byte == 'x', "SA_RESTART makes a call again");
  writer.join();

  Handle(SIGSEGV, JumpOut, SA_ONSTACK);
  stack_t stack{};
  stack.ss_size = 64 << 10;
  stack.ss_sp = std::malloc(stack.ss_size);
  Expect(sigaltstack(&stack, nullptr) == 0, "sigaltstack");
  auto* const nowhere = reinterpret_cast<volatile int*>(0x1234'5678'0000);
  if (sigsetjmp(jump, 1) == 0) {
    *nowhere = 1;  // NOLINT(clang-analyzer-core.NullDereference): that is what it is for
    Expect(false, "a store to nowhere");
  }
  Expect(seen_signal == SIGSEGV && fault_address == nowhere, "SIGSEGV names its address");
  Handle(SIGILL, SkipUd2, 0);
  asm volatile("ud2");
  Expect(seen_signal == SIGILL, "SIGILL, and on behind it");
  Say("signals");
}

// ---- threads and exceptions
// ----------------------------------------------------------------------

thread_local int own_value = 3;

int ThrowDeep(int depth) {
  if (depth == 0) throw std::runtime_error("from below");
  return ThrowDeep(depth - 1) + 1;
}

void Threads() {
  std::atomic<int> good{0};
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&good, i] {
      own_value += i;
      try {
        ThrowDeep(20);
      } catch (const std::runtime_error& error) {
        const bool right = std::string(error.what()) == "from below" && own_value == 3 + i;
        if (right && Ring() == 0 && dune::CurrentBackend() == dune::Backend::kRing0) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Expect(good == 4 && own_value == 3, "threads: ring 0, exceptions, thread_local");
  Say("threads");
}

// A vCPU is a descriptor. Threads that could not be had for want of one are no threads less later.
void ThreadsWithoutDescriptors() {
  rlimit before{};
  Expect(getrlimit(RLIMIT_NOFILE, &before) == 0, "getrlimit");
  const rlimit none{0, before.rlim_max};
  static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&gate);
  std::vector<pthread_t> threads;
  const auto start = [&] {
    pthread_t thread{};
    const auto wait = [](void*) -> void* {
      pthread_mutex_lock(&gate);
      pthread_mutex_unlock(&gate);
      return nullptr;
    };
    const int error = pthread_create(&thread, nullptr, wait, nullptr);
    if (error == 0) threads.push_back(thread);
    return error;
  };
  Expect(setrlimit(RLIMIT_NOFILE, &none) == 0, "setrlimit");
  // Those that have a vCPU already.
  while (start() == 0) {
  }
  for (int refused = 0; refused < 1100; ++refused) Expect(start() != 0, "a thread without a descriptor");
  Expect(setrlimit(RLIMIT_NOFILE, &before) == 0 && start() == 0, "a thread when there are descriptors again");
  pthread_mutex_unlock(&gate);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  Say("threads without descriptors");
}

// ---- processes
// -----------------------------------------------------------------------------------

void Processes() {
  int value = 1;
  const pid_t child = fork();
  if (child == 0) {
    value = 2;
    int in_thread = 9;
    std::thread([&] { in_thread = static_cast<int>(Ring()); }).join();
    void* const memory = std::malloc(3 << 20);
    std::memset(memory, 1, 3 << 20);
    _exit(Ring() == 0 && in_thread == 0 && value == 2 ? 7 : 1);
  }
  int status = 0;
  Expect(waitpid(child, &status, 0) == child, "the child ends");
  Expect(WIFEXITED(status) && WEXITSTATUS(status) == 7 && value == 1,
         "fork: in ring 0, memory its own");
  pid_t spawned = 0;
  char shell[] = "/bin/sh", option[] = "-c", text[] = "exit 5";
  char* const arguments[] = {shell, option, text, nullptr};
  Expect(posix_spawn(&spawned, shell, nullptr, nullptr, arguments, environ) == 0, "posix_spawn");
  Expect(waitpid(spawned, &status, 0) == spawned && WEXITSTATUS(status) == 5, "its status");
  char missing[] = "/no/such/program";
  char* const none[] = {missing, nullptr};
  Expect(posix_spawn(&spawned, missing, nullptr, nullptr, none, environ) == ENOENT,
         "a spawn that fails says why: memory is shared");
  Expect(std::system("exit 3") >> 8 == 3, "system");
  const pid_t killed = fork();
  if (killed == 0) {
    signal(SIGSEGV, SIG_DFL);
    // Volatile both: GCC leaves out a plain store to what it knows to be nothing.
    volatile int* volatile nowhere = nullptr;
    *nowhere = 1;
  }
  Expect(
      waitpid(killed, &status, 0) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
      "a fault without a handler ends the process with its signal");
  raise(SIGUSR1);
  Expect(seen_signal == SIGUSR1, "children leave the parent's handlers alone");
  Say("processes");
}

// Threads that allocate, a timer's signals in the middle of them, and children: all at once.
void Storm() {
  static std::atomic<int> signals{0};
  struct sigaction action {};
  action.sa_handler = [](int) { ++signals; };
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 2000}, {0, 2000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    threads.emplace_back([&stop, seed] {
      std::map<int, std::string> kept;
      for (unsigned i = seed; !stop; i = i * 1103515245 + 12345) {
        std::string& text = kept[static_cast<int>(i >> 8 & 127)];
        Expect(text.empty() || text.back() == static_cast<char>('a' + text.size() % 26),
               "memory keeps what it is given");
        text.assign(i >> 16 & 4095, 'x');
        if (!text.empty()) text.back() = static_cast<char>('a' + text.size() % 26);
      }
    });
  }
  for (int round = 0; round < 8; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      std::string text(100'000, 'c');
      _exit(text[99'999] == 'c' && Ring() == 0 ? 4 : 1);
    }
    int status = 0;
    Expect(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4, "a child in a storm");
    std::thread([] { Expect(Ring() == 0, "a thread in a storm"); }).join();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  Expect(signals > 20, "the timer's signals came");
  Say("storm");
}

// ---- in and out
// ----------------------------------------------------------------------------------

// Natively, of threads that come in one after the other: a place is used again, the registers of before are gone.
[[gnu::target("avx")]] void RegistersOfTheLastThread() {
  if (!__builtin_cpu_supports("avx")) return;
  std::thread([] {
    Expect(dune::Enter().ok(), "Enter");
    asm volatile("vcmptrueps %%ymm15, %%ymm15, %%ymm15" : : : "xmm15");
    Expect(dune::Leave().ok(), "Leave");
  }).join();
  std::thread([] {
    std::uint64_t found[4];
    Expect(dune::Enter().ok(), "Enter");
    asm volatile("vmovdqu %%ymm15, %0" : "=m"(found));
    Expect(dune::Leave().ok() && found[2] == 0 && found[3] == 0, "what another thread had in its registers");
  }).join();
}

void Leaving() {
  Expect(dune::Leave().ok() && Ring() == 3, "Leave: natively again");
  Expect(dune::CurrentBackend() == dune::Backend::kNone, "CurrentBackend after Leave");
  Expect(!dune::Leave().ok(), "a thread that is out cannot leave");
  seen_signal = 0;
  raise(SIGUSR1);
  Expect(seen_signal == SIGUSR1 && ring_in_handler == 3, "a handler natively");
  // The rule: a jump to a place of before Enter or Leave ends on the ground the thread is on now.
  volatile int round = 0;
  if (sigsetjmp(jump, 1) == 0) {
    Expect(dune::Enter().ok() && Ring() == 0, "Enter again");
    round = 1;
    siglongjmp(jump, 1);
  }
  Expect(round == 1 && Ring() == 0, "siglongjmp over Enter does not leave ring 0");
  Expect(dune::Enter().ok(), "Enter in ring 0 is nothing");
  round = 0;
  if (sigsetjmp(jump, 1) == 0) {
    Expect(dune::Leave().ok() && Ring() == 3, "Leave again");
    round = 1;
    siglongjmp(jump, 1);
  }
  Expect(round == 1 && Ring() == 3, "nor does one over Leave come back to it");
  RegistersOfTheLastThread();
  // A child is where the thread was that forked; it goes in and out by itself.
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    const bool is_out = Ring() == 3 && dune::CurrentBackend() == dune::Backend::kNone;
    _exit(is_out && dune::Enter().ok() && Ring() == 0 && dune::Leave().ok() && Ring() == 3 ? 6 : 1);
  }
  Expect(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6, "a child of a thread that is out");
  Expect(dune::Enter().ok() && Ring() == 0, "Enter a third time");
  child = fork();
  if (child == 0) {
    const bool left = Ring() == 0 && dune::Leave().ok() && Ring() == 3;
    _exit(left && dune::Enter().ok() && Ring() == 0 ? 6 : 1);
  }
  Expect(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6, "a child of a thread that is in");
  // Jumps in a child stay in it.
  round = 0;
  if (sigsetjmp(jump, 1) == 0) {
    child = fork();
    if (child == 0) siglongjmp(jump, 1);
    Expect(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6, "a child that jumps");
  } else {
    _exit(Ring() == 0 ? 6 : 1);
  }
  std::thread([] { Expect(Ring() == 0, "threads after entering again"); }).join();
  Say("leave and enter");
}

}  // namespace

int main() {
  EnterRing0();
  Expect(dune::GetCapabilities().privileged_instructions, "Capabilities");
  Library();
  OneExitACall();
  Memory();
  Descriptors();
  Signals();
  Threads();
  ThreadsWithoutDescriptors();
  Processes();
  Storm();
  Leaving();
  std::puts("ring 0 works");
}
