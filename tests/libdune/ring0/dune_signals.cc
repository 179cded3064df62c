// Signals arrive as usual: what a handler is told, in which order, with which mask, and what the interrupted code finds
// afterwards. Each scenario writes down what it sees, natively first; in ring 0, and natively after Leave while another
// thread is in, it has to be the same. Run in the lab; the last line is "ring 0 works" when all of it did.
#include <fcntl.h>
#include <immintrin.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dune/dune.h"
#include "tests/libdune/ring0/expect.h"

namespace {

// ---- what is written down, also by handlers
char record[4096];
std::size_t recorded = 0;

[[gnu::format(printf, 1, 2)]] void Record(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int size = std::vsnprintf(record + recorded, sizeof(record) - recorded, format, arguments);
  va_end(arguments);
  Expect(size >= 0 && recorded + static_cast<std::size_t>(size) < sizeof(record), "the record has room");
  recorded += static_cast<std::size_t>(size);
}

const char* Name(int signal) {
  static const int first = SIGRTMIN;
  static char name[16];
  if (signal >= first) {
    std::snprintf(name, sizeof(name), "RT+%d", signal - first);
  } else {
    std::snprintf(name, sizeof(name), "%s", sigabbrev_np(signal));
  }
  return name;
}

std::uint64_t Mask() {
  std::uint64_t mask = 0;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, 8);
  return mask;
}

using Handler = void (*)(int, siginfo_t*, void*);

void Handle(int signal, Handler handler, int flags = 0, std::initializer_list<int> blocked = {}) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  for (const int other : blocked) sigaddset(&action.sa_mask, other);
  Expect(sigaction(signal, &action, nullptr) == 0, "sigaction");
}

class Blocked {
 public:
  Blocked(std::initializer_list<int> signals) {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : signals) sigaddset(&set, signal);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
  }
  ~Blocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;

 private:
  sigset_t before_;
};

void Queue(int signal, int value) {
  sigval what{};
  what.sival_int = value;
  Expect(sigqueue(getpid(), signal, what) == 0, "sigqueue");
}

void Write(int signal, siginfo_t* info, void*) {
  Record("[%s code %d value %d mask %llx] ", Name(signal), info->si_code, info->si_value.sival_int,
         static_cast<unsigned long long>(Mask()));
}

// ---- scenarios

void SenderAndValue() {
  const Handler who = [](int signal, siginfo_t* info, void*) {
    Record("[%s code %d from %s, %s user] ", Name(signal), info->si_code, info->si_pid == getpid() ? "self" : "another",
           info->si_uid == getuid() ? "this" : "another");
  };
  Handle(SIGUSR1, who);
  raise(SIGUSR1);
  kill(getpid(), SIGUSR1);
  pthread_kill(pthread_self(), SIGUSR1);
  const pid_t child = fork();
  if (child == 0) _exit(kill(getppid(), SIGUSR1));
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  Handle(SIGUSR2, Write);
  Queue(SIGUSR2, 4711);
}

void Timer() {
  Handle(SIGALRM, Write);
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGALRM;
  event.sigev_value.sival_int = 99;
  timer_t timer{};
  Expect(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "timer_create");
  const itimerspec soon{{}, {0, 5'000'000}};
  const Blocked blocked({SIGALRM});
  timer_settime(timer, 0, &soon, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigsuspend(&none);
  timer_delete(timer);
}

void Child() {
  Handle(SIGCHLD, [](int, siginfo_t* info, void*) {
    Record("[child code %d status %d] ", info->si_code, info->si_status);
  });
  int status = 0;
  const pid_t ended = fork();
  if (ended == 0) _exit(42);
  while (waitpid(ended, &status, 0) < 0) {
  }
  const pid_t killed = fork();
  if (killed == 0) {
    for (;;) pause();
  }
  kill(killed, SIGTERM);
  while (waitpid(killed, &status, 0) < 0) {
  }
  // Nobody waits for those.
  Handle(SIGCHLD, [](int, siginfo_t*, void*) { Record("[child] "); }, SA_NOCLDWAIT);
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  const pid_t waited = waitpid(gone, &status, 0);
  Record("waited %d errno %d", waited < 0, errno);
  signal(SIGCHLD, SIG_DFL);
}

void NestedWithoutDefer() {
  static int depth = 0;
  const Handler handler = [](int signal, siginfo_t*, void*) {
    Record("<%d ", ++depth);
    if (depth < 3) raise(signal);
    Record("%d> ", depth--);
  };
  Handle(SIGUSR1, handler, SA_NODEFER);
  raise(SIGUSR1);
  // Deferred: one comes when the other is over.
  static int runs = 0;
  runs = 0;
  Handle(SIGUSR1, [](int signal, siginfo_t*, void*) {
    Record("<");
    if (++runs < 3) raise(signal);
    Record("> ");
  });
  raise(SIGUSR1);
}

void Reset() {
  Handle(SIGUSR1, Write, static_cast<int>(SA_RESETHAND) | SA_RESTART, {SIGUSR2});
  raise(SIGUSR1);
  struct sigaction now {};
  sigaction(SIGUSR1, nullptr, &now);
  Record("default %d flags %x blocks %d", now.sa_handler == SIG_DFL, static_cast<unsigned>(now.sa_flags) & ~0x0400'0000u,
         sigismember(&now.sa_mask, SIGUSR2));
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    raise(SIGUSR1);
    _exit(0);
  }
  waitpid(child, &status, 0);
  Record(" ends by %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

void Masks() {
  Handle(SIGUSR1, Write, 0, {SIGUSR2, SIGHUP});
  Handle(SIGUSR2, Write, SA_NODEFER);
  {
    const Blocked outer({SIGWINCH});
    raise(SIGUSR1);
    raise(SIGUSR2);
    Record("between %llx ", static_cast<unsigned long long>(Mask()));
  }
  Record("after %llx ", static_cast<unsigned long long>(Mask()));
  // What comes while it is blocked by another's handler comes behind that.
  Handle(SIGUSR1, [](int, siginfo_t*, void*) {
    raise(SIGUSR2);
    sigset_t pending;
    sigpending(&pending);
    Record("[pending %d] ", sigismember(&pending, SIGUSR2));
  }, 0, {SIGUSR2});
  raise(SIGUSR1);
  // A handler's context says what is blocked behind it.
  Handle(SIGUSR1, [](int, siginfo_t*, void* context) {
    sigaddset(&static_cast<ucontext_t*>(context)->uc_sigmask, SIGHUP);
  });
  raise(SIGUSR1);
  Record("set by the context %llx", static_cast<unsigned long long>(Mask()));
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

void OrderOfMany() {
  const int low = SIGRTMIN + 1, high = SIGRTMIN + 2;
  for (const bool one_by_one : {false, true}) {
    const std::initializer_list<int> all = {low, high, SIGUSR1};
    const std::initializer_list<int> nothing = {};
    for (const int signal : all) Handle(signal, Write, 0, one_by_one ? all : nothing);
    {
      const Blocked blocked(all);
      for (int value = 1; value <= 3; ++value) {
        Queue(high, value);
        Queue(low, 10 + value);
        Queue(SIGUSR1, 100 + value);  // only the first is kept
      }
    }
    Record("| ");
  }
}

void Waiting() {
  const int queued = SIGRTMIN + 3;
  const Blocked blocked({queued, SIGUSR1, SIGUSR2});
  Queue(queued, 7);
  Queue(queued, 8);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, queued);
  siginfo_t info{};
  Record("%d ", sigwaitinfo(&set, &info) == queued);
  Record("value %d code %d ", info.si_value.sival_int, info.si_code);
  int signal = 0;
  Record("%d ", sigwait(&set, &signal) == 0 && signal == queued);
  const std::timespec nothing{0, 1'000'000};
  Record("%d errno %d ", sigtimedwait(&set, nullptr, &nothing), errno);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  const int descriptor = signalfd(-1, &set, SFD_CLOEXEC);
  Queue(SIGUSR1, 31);
  signalfd_siginfo read_info{};
  Record("read %d ", read(descriptor, &read_info, sizeof(read_info)) == sizeof(read_info));
  Record("signal %u value %d code %d", read_info.ssi_signo, read_info.ssi_int, read_info.ssi_code);
  close(descriptor);
}

// The mask of the call holds until a handler is there, and for it.
void WaitingByMask() {
  Handle(SIGUSR1, Write);
  Handle(SIGUSR2, Write);
  const Blocked blocked({SIGUSR1, SIGUSR2, SIGHUP});
  sigset_t none;
  sigemptyset(&none);
  const auto told = [](int result) {
    const int error = errno;
    Record("%d errno %d mask %llx | ", result, error, static_cast<unsigned long long>(Mask()));
  };
  raise(SIGUSR1);
  raise(SIGUSR2);
  told(sigsuspend(&none));
  const std::timespec soon{1, 0};
  raise(SIGUSR1);
  told(ppoll(nullptr, 0, &soon, &none));
  raise(SIGUSR2);
  told(pselect(0, nullptr, nullptr, nullptr, &soon, &none));
  const int events = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{};
  raise(SIGUSR1);
  told(epoll_pwait(events, &event, 1, 1000, &none));
  close(events);
  aio_context_t requests = 0;
  Expect(syscall(SYS_io_setup, 1, &requests) == 0, "io_setup");
  struct {
    const sigset_t* mask;
    std::size_t size;
  } const masked{&none, 8};
  io_event done{};
  raise(SIGUSR2);
  told(static_cast<int>(syscall(SYS_io_pgetevents, requests, 1, 1, &done, &soon, &masked)));
  syscall(SYS_io_destroy, requests);
  io_uring_params parameters{};
  const int ring = static_cast<int>(syscall(SYS_io_uring_setup, 1, &parameters));
  Expect(ring >= 0, "io_uring_setup");
  const __kernel_timespec limit{1, 0};
  const io_uring_getevents_arg by_structure{.sigmask = reinterpret_cast<std::uintptr_t>(&none),
                                            .sigmask_sz = 8,
                                            .pad = 0,
                                            .ts = reinterpret_cast<std::uintptr_t>(&limit)};
  raise(SIGUSR1);
  told(static_cast<int>(syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, &none, 8)));
  raise(SIGUSR2);
  told(static_cast<int>(syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                                &by_structure, sizeof(by_structure))));
  close(ring);
  // One that is ready leaves the signals to the program's mask.
  int ends[2];
  Expect(pipe(ends) == 0 && write(ends[1], "x", 1) == 1, "pipe");
  pollfd ready{ends[0], POLLIN, 0};
  told(ppoll(&ready, 1, &soon, &none));
  close(ends[0]);
  close(ends[1]);
}

// SIGALRM every 150 ms: one that comes before the call has begun is not the last.
class Alarms {
 public:
  explicit Alarms(Handler handler, int flags = 0) {
    handled = false;
    Handle(SIGALRM, handler, flags);
    Every(150'000);
  }
  ~Alarms() { Every(0); }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;

  // In the handler: nothing is written down of the later ones.
  static bool First() { return !std::exchange(handled, true); }

 private:
  static void Every(suseconds_t period) {
    const itimerval timer{{0, period}, {0, period}};
    Expect(setitimer(ITIMER_REAL, &timer, nullptr) == 0, "setitimer");
  }
  static inline bool handled;
};

void CallsThatAreInterrupted() {
  const auto written_down = [](int, siginfo_t*, void*) {
    if (Alarms::First()) Record("[alarm] ");
  };
  const auto told = [](const char* call, ssize_t result) {
    const int error = errno;
    Record("%s %zd errno %d ", call, result, result < 0 ? error : 0);
  };
  int ends[2];
  Expect(pipe(ends) == 0, "pipe");
  char byte = 0;
  {
    const Alarms alarms(written_down);
    told("read", read(ends[0], &byte, 1));
  }
  {
    const Alarms alarms(written_down);
    told("sleep", usleep(2'000'000));
  }
  pollfd poll_end{ends[0], POLLIN, 0};
  {
    const Alarms alarms(written_down, SA_RESTART);
    // Never made again.
    told("poll", poll(&poll_end, 1, 2000));
  }
  static int write_end = 0;
  write_end = ends[1];
  {
    const auto writes = [](int, siginfo_t*, void*) {
      if (Alarms::First()) Record("[writes %zd] ", write(write_end, "x", 1));
    };
    const Alarms alarms(writes, SA_RESTART);
    told("read", read(ends[0], &byte, 1));
  }
  close(ends[0]);
  Handle(SIGPIPE, Write);
  told("write", write(ends[1], "x", 1));
  close(ends[1]);
}

void OtherStack() {
  static char memory[64 << 10];
  stack_t before{}, stack{};
  stack.ss_sp = memory;
  stack.ss_size = sizeof(memory);
  Expect(sigaltstack(&stack, &before) == 0, "sigaltstack");
  const Handler handler = [](int, siginfo_t*, void* context) {
    const auto here = reinterpret_cast<char*>(__builtin_frame_address(0));
    stack_t now{}, other{};
    sigaltstack(nullptr, &now);
    const int changed = sigaltstack(&other, nullptr);
    Record("[on it %d flags %d context %d change %d] ", here >= memory && here < memory + sizeof(memory), now.ss_flags,
           static_cast<ucontext_t*>(context)->uc_stack.ss_sp == memory, changed != 0 ? errno : 0);
  };
  Handle(SIGUSR1, handler, SA_ONSTACK);
  raise(SIGUSR1);
  Handle(SIGUSR2, handler);
  raise(SIGUSR2);
  stack.ss_flags = static_cast<int>(1u << 31);  // SS_AUTODISARM
  sigaltstack(&stack, nullptr);
  Handle(SIGUSR1, [](int, siginfo_t*, void*) {
    stack_t now{};
    sigaltstack(nullptr, &now);
    Record("[disarmed %d] ", now.ss_flags);
  }, SA_ONSTACK);
  raise(SIGUSR1);
  sigaltstack(nullptr, &stack);
  Record("armed %d", stack.ss_sp == memory);
  stack = {};
  stack.ss_flags = SS_DISABLE;
  sigaltstack((before.ss_flags & SS_DISABLE) != 0 ? &stack : &before, nullptr);
}

sigjmp_buf jump;

void Jumps() {
  Handle(SIGUSR1, [](int, siginfo_t*, void*) { siglongjmp(jump, 3); }, 0, {SIGHUP});
  for (int turn = 0; turn < 2; ++turn) {
    if (const int from = sigsetjmp(jump, 1); from == 0) {
      raise(SIGUSR1);
    } else {
      Record("jumped %d mask %llx ", from, static_cast<unsigned long long>(Mask()));
    }
  }
}

// The address, where a handler has to know it; what it is told of the exception.
void Exceptions() {
  const Handler handler = [](int signal, siginfo_t* info, void* context) {
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
    Record("[%s code %d vector %lld at %s] ", Name(signal), info->si_code, registers[REG_TRAPNO],
           at == 0 ? "none" : at == static_cast<std::uintptr_t>(registers[REG_RIP]) ? "RIP" : "memory");
    siglongjmp(jump, 1);
  };
  for (const int signal : {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP}) Handle(signal, handler);
  static void (*const kinds[])() = {
      [] { asm volatile("xor %%ecx, %%ecx; div %%ecx" ::: "rax", "rcx", "rdx"); },
      [] { asm volatile("ud2"); },
      [] { asm volatile("int3"); },
      [] { asm volatile("movb $1, (%0)" ::"r"(0x1234'5678'0000) : "memory"); },
      [] { asm volatile("movb $1, (%0)" ::"r"(std::uint64_t{1} << 63) : "memory"); },
      [] {
        void* const page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        asm volatile("movb $1, (%0)" ::"r"(page) : "memory");
      },
      [] {
        char name[] = "/tmp/dune_signals.XXXXXX";
        const int file = mkstemp(name);
        unlink(name);
        void* const page = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file, 0);
        close(file);
        asm volatile("movb (%0), %%al" ::"r"(page) : "memory", "rax");
      },
      [] {
        // A divide by 0 of the vector unit, which is let through.
        asm volatile(
            "sub $8, %%rsp; movl $0x1d80, (%%rsp); ldmxcsr (%%rsp); add $8, %%rsp\n"
            "xorps %%xmm1, %%xmm1; mov $0x3f800000, %%eax; movd %%eax, %%xmm0; divss %%xmm1, %%xmm0" ::
                : "rax", "xmm0", "xmm1", "memory");
      },
      [] { asm volatile("pushfq; orl $0x100, (%%rsp); popfq; nop" ::: "memory", "cc"); },
  };
  for (void (*kind)() : kinds) {
    if (sigsetjmp(jump, 1) == 0) kind();
  }
  _mm_setcsr(0x1f80);
}

#define EACH_REGISTER(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)

// All vector registers and the x87 stack are the interrupted code's again, also when the handler uses them; what it writes to
// its frame is what they have.
[[gnu::target("avx")]] void VectorRegisters() {
  if (!__builtin_cpu_supports("avx")) {
    Record("no AVX");
    return;
  }
  Handle(SIGUSR1, [](int, siginfo_t*, void* context) {
    std::uint16_t control = 0;
    std::uint32_t mxcsr = 0;
    asm volatile("fnstcw %0; stmxcsr %1" : "=m"(control), "=m"(mxcsr));
    const auto* frame = static_cast<ucontext_t*>(context)->uc_mcontext.fpregs;
    std::uint32_t in_frame = 0, magic = 0;
    std::memcpy(&in_frame, &frame->_xmm[5], sizeof(in_frame));
    std::memcpy(&magic, reinterpret_cast<const char*>(frame) + 464, sizeof(magic));
    Record("[control %x mxcsr %x xmm5 %x magic %x] ", control, mxcsr, in_frame, magic);
    static_cast<ucontext_t*>(context)->uc_mcontext.fpregs->_xmm[6].element[0] = 0xabcd;
#define CLOBBER(n) "vpcmpeqd %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n"
    asm volatile(EACH_REGISTER(CLOBBER) "fninit; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fldz; emms" ::: "memory");
  });
  alignas(32) static std::uint32_t given[16][8], found[16][8];
  for (unsigned index = 0; index < 16; ++index) {
    for (unsigned part = 0; part < 8; ++part) given[index][part] = 0x100 * index + part + 1;
  }
  std::memset(found, 0, sizeof(found));
  double top = 0;
#define LOAD(n) "vmovdqa 32*" #n "(%[given]), %%ymm" #n "\n"
#define STORE(n) "vmovdqa %%ymm" #n ", 32*" #n "(%[found])\n"
  std::uint64_t call = SYS_tgkill;
  asm volatile("fld1\n" EACH_REGISTER(LOAD) "syscall\n" EACH_REGISTER(STORE) "vzeroupper; fstpl %[top]"
               : "+a"(call), [top] "=m"(top)
               : [given] "r"(given), [found] "r"(found), "D"(getpid()), "S"(gettid()), "d"(SIGUSR1)
               : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                 "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  given[6][0] = 0xabcd;
  Record("kept %d x87 %g", std::memcmp(given, found, sizeof(given)) == 0, top);
}

void OtherThread() {
  static std::atomic<int> ready;
  static std::atomic<pid_t> handled_in;
  ready = 0;
  handled_in = 0;
  Handle(SIGUSR1, [](int, siginfo_t* info, void*) {
    Record("[code %d] ", info->si_code);
    handled_in = gettid();
  });
  pid_t id = 0;
  std::thread thread([&] {
    id = gettid();
    ready = 1;
    while (handled_in == 0) usleep(1000);
  });
  while (ready == 0) usleep(1000);
  pthread_kill(thread.native_handle(), SIGUSR1);
  thread.join();
  Record("in the thread %d ", handled_in == id);
  // The process's comes to who does not block it.
  ready = 0;
  handled_in = 0;
  std::thread open([&] {
    id = gettid();
    ready = 1;
    while (handled_in == 0) usleep(1000);
  });
  while (ready == 0) usleep(1000);
  {
    const Blocked blocked({SIGUSR1});
    kill(getpid(), SIGUSR1);
    open.join();
  }
  Record("in the thread %d", handled_in == id);
}

// A thread that is out, in a process that is in: the kernel calls libdune's handler for it all the same.
void ThreadThatIsOut() {
  Handle(SIGUSR1, Write, static_cast<int>(SA_RESETHAND), {SIGHUP});
  Handle(SIGUSR2, Write, SA_NODEFER);
  std::thread([] {
    if (dune::CurrentBackend() != dune::Backend::kNone) Expect(dune::Leave().ok(), "Leave of a new thread");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    raise(SIGUSR1);
    raise(SIGUSR2);
    Record("mask %llx ", static_cast<unsigned long long>(Mask()));
  }).join();
  struct sigaction now {};
  sigaction(SIGUSR1, nullptr, &now);
  Record("default %d", now.sa_handler == SIG_DFL);
}

constexpr struct {
  const char* name;
  void (*run)();
} kScenarios[] = {
    {"sender and value", SenderAndValue},
    {"timer", Timer},
    {"child", Child},
    {"SA_NODEFER", NestedWithoutDefer},
    {"SA_RESETHAND", Reset},
    {"masks", Masks},
    {"order", OrderOfMany},
    {"sigwait and signalfd", Waiting},
    {"sigsuspend", WaitingByMask},
    {"interrupted calls", CallsThatAreInterrupted},
    {"alternate stack", OtherStack},
    {"siglongjmp", Jumps},
    {"exceptions", Exceptions},
    {"vector registers", VectorRegisters},
    {"another thread", OtherThread},
    {"a thread that is out", ThreadThatIsOut},
};

// From its first instruction on: else it takes what is meant for others until it has blocked it.
template <typename Body>
std::thread WithEverythingBlocked(Body body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  std::thread thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

std::vector<std::string> Run() {
  std::vector<std::string> records;
  for (const auto& scenario : kScenarios) {
    recorded = 0;
    std::printf("- %s\n", scenario.name);
    std::fflush(stdout);
    scenario.run();
    records.emplace_back(record, recorded);
    Expect(Mask() == 0, scenario.name);
  }
  return records;
}

bool Compare(const char* where, const std::vector<std::string>& native, const std::vector<std::string>& here) {
  bool same = true;
  for (std::size_t index = 0; index < std::size(kScenarios); ++index) {
    if (native[index] == here[index]) continue;
    std::printf("FAILED: %s: %s\n  natively: %s\n  there:    %s\n", where, kScenarios[index].name, native[index].c_str(),
                here[index].c_str());
    same = false;
  }
  std::fflush(stdout);
  return same;
}

}  // namespace

int main() {
  const std::vector<std::string> native = Run();
  for (std::size_t index = 0; index < std::size(kScenarios); ++index) {
    std::printf("%s: %s\n", kScenarios[index].name, native[index].c_str());
    Expect(!native[index].empty(), "something is written down");
  }
  std::fflush(stdout);
  EnterRing0();
  bool same = Compare("in ring 0", native, Run());
  // A thread that is out, in a process that is in: the kernel calls libdune's handler all the same.
  std::atomic<bool> over{false};
  std::thread in = WithEverythingBlocked([&] {
    while (!over) usleep(10'000);
  });
  Expect(dune::Leave().ok(), "Leave");
  same &= Compare("outside", native, Run());
  Expect(dune::Enter().ok(), "Enter");
  over = true;
  in.join();
  if (same) std::puts("ring 0 works");
  return same ? 0 : 1;
}
