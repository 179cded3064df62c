// No signal is lost, comes twice or to the wrong process, whatever its thread is just doing: another process sends numbered ones
// at all times while the thread leaves ring 0 and enters it, forks, vforks, makes threads and faults. Run in the
// lab; the last line is "ring 0 works" when all of it did.
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

#include "dune/dune.h"
#include "tests/libdune/ring0/expect.h"

namespace {

const int kNumbered = SIGRTMIN + 1;
constexpr int kSignals = 64;

// In memory that all processes have in common.
struct Shared {
  std::atomic<bool> go;       // the sender sends
  std::atomic<int> sent;      // and has sent so many
  std::atomic<bool> faults;   // and SIGSEGV between them, which nobody causes
  std::atomic<int> received;  // in order
  std::atomic<int> bad;       // number + 1 of the first that was not the next one
  std::atomic<int> strays;    // handled in another process
  std::atomic<int> segv;
  std::atomic<std::uint64_t> child_mask;
};
Shared* shared = nullptr;
pid_t program = 0;

void Count(int, siginfo_t* info, void*) {
  if (syscall(SYS_getpid) != program) {
    ++shared->strays;
    return;
  }
  if (info->si_value.sival_int != shared->received && shared->bad == 0) shared->bad = info->si_value.sival_int + 1;
  ++shared->received;
}

void OnFault(int, siginfo_t*, void*) { ++shared->segv; }

void SkipUd2(int, siginfo_t*, void* context) { static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2; }

void Handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  Expect(sigaction(signal, &action, nullptr) == 0, "sigaction");
}

// What the kernel blocks of this thread, in it or in a vfork child: without libc, which keeps two signals to itself.
std::uint64_t Mask() {
  std::uint64_t mask = 0;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, kSignals / 8);
  return mask;
}

// One when the last has been handled and the program has had some time, never the same, for itself.
[[noreturn]] void Send() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (unsigned turn = 0;; turn = turn * 1103515245 + 12345) {
    const std::timespec pause{0, 200'000 + static_cast<long>(turn >> 16 & 1023) * 1000};
    nanosleep(&pause, nullptr);
    if (!shared->go || shared->received != shared->sent) continue;
    sigval value{};
    value.sival_int = shared->sent;
    // Counted before it can be handled.
    ++shared->sent;
    if (sigqueue(program, kNumbered, value) != 0) --shared->sent;
    if (shared->faults) kill(program, SIGSEGV);
  }
}

// Nothing is sent while nothing is looked at: the numbers begin anew.
void InStorm(const char* what, int rounds, void (*body)()) {
  shared->sent = shared->received = shared->bad = shared->strays = shared->segv = 0;
  shared->go = true;
  for (int round = 0; round < rounds; ++round) {
    body();
    if (Mask() != 0) {
      std::printf("round %d: blocked 0x%llx\n", round, static_cast<unsigned long long>(Mask()));
      Expect(false, (std::string(what) + ": what was not blocked is not").c_str());
    }
  }
  shared->go = false;
  const std::timespec pause{0, 5'000'000};
  for (int turns = 0; turns < 400 && shared->received < shared->sent; ++turns) nanosleep(&pause, nullptr);
  nanosleep(&pause, nullptr);  // one that was sent while go became false
  std::printf("%s: %d rounds, %d sent, %d received, %d faults sent\n", what, rounds, shared->sent.load(), shared->received.load(),
              shared->segv.load());
  Expect(shared->strays == 0, (std::string(what) + ": handled in another process").c_str());
  Expect(shared->bad == 0, (std::string(what) + ": one is missing or came twice").c_str());
  Expect(shared->received == shared->sent, (std::string(what) + ": all have come").c_str());
  Expect(shared->sent > 20, (std::string(what) + ": it was a storm").c_str());
  std::fflush(stdout);
}

void LeaveAndEnter() {
  Expect(dune::Leave().ok(), "Leave");
  Expect(Mask() == 0, "Leave: what was not blocked is not");
  Expect(dune::Enter().ok(), "Enter");
}

void Fork() {
  const pid_t child = fork();
  if (child == 0) {
    shared->child_mask = Mask();
    _exit(4);
  }
  int status = 0;
  Expect(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4, "fork");
  Expect(shared->child_mask == 0, "a forked child blocks what its parent did");
}

// By hand: libc's own functions block signals round it. The child does what a vfork's should not: it looks.
void Vfork() {
  // NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork)
  const pid_t child = vfork();
  if (child == 0) {
    // NOLINTNEXTLINE(clang-analyzer-unix.Vfork)
    shared->child_mask = Mask();
    _exit(4);
  }
  int status = 0;
  Expect(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4, "vfork");
  Expect(shared->child_mask == 0, "a vfork child blocks what its parent did");
}

// A thread that ends by the bare call, with nothing blocked: what the kernel has given to it by then is handled before.
alignas(16) char thread_stack[64 << 10];
std::atomic<int> thread_alive{0};

void RawThread() {
  constexpr unsigned long kFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
  const std::uint64_t numbered = std::uint64_t{1} << (kNumbered - 1), none = 0;
  thread_alive = 1;
  long result = SYS_clone;
  register auto* child_tid asm("r10") = &thread_alive;
  asm volatile(
      "syscall\n"
      "test %%rax, %%rax\n"
      "jnz 2f\n"
      "mov $2000, %%ecx\n"
      "1: dec %%ecx\n"
      "jnz 1b\n"
      "xor %%edi, %%edi\n"
      "mov $60, %%eax\n"
      "syscall\n"
      "2:"
      : "+a"(result)
      : "D"(kFlags), "S"(thread_stack + sizeof(thread_stack)), "d"(0), "r"(child_tid)
      : "rcx", "r11", "memory");
  Expect(result > 0, "clone");
  // Only the thread takes them now.
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &numbered, nullptr, kSignals / 8);
  while (thread_alive != 0) sched_yield();
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, kSignals / 8);
}

void Faults() {
  for (int i = 0; i < 20; ++i) asm volatile("ud2");
}

void SystemCalls() {
  for (int i = 0; i < 20; ++i) syscall(SYS_getppid);
}

constexpr struct {
  const char* name;
  int rounds;
  bool faults;
  void (*body)();
} kStorms[] = {
    {"system calls", 200, false, SystemCalls}, {"faults", 50, false, Faults},  {"sent SIGSEGV", 200, true, SystemCalls},
    {"leave", 150, false, LeaveAndEnter},      {"fork", 25, false, Fork},      {"vfork", 60, false, Vfork},
    {"threads", 60, false, RawThread},
};

}  // namespace

// usage: dune_signal_storm [STORM]
int main(int argc, char** argv) {
  shared = static_cast<Shared*>(
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  Expect(shared != MAP_FAILED, "shared memory");
  program = getpid();
  Handle(kNumbered, Count);
  Handle(SIGSEGV, OnFault);
  Handle(SIGILL, SkipUd2);
  const pid_t sender = fork();
  if (sender == 0) Send();
  EnterRing0();
  for (const auto& storm : kStorms) {
    if (argc > 1 && std::strcmp(argv[1], storm.name) != 0) continue;
    shared->faults = storm.faults;
    InStorm(storm.name, storm.rounds, storm.body);
    Expect(!storm.faults || shared->segv > 20, "SIGSEGV that is sent comes");
  }
  kill(sender, SIGKILL);
  std::puts("ring 0 works");
}
