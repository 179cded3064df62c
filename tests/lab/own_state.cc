// Calls by which ring 0 changes state of the thread's own: right every time, while signals strike, and
// what cannot be answered there is answered all the same. Also right natively. Says nothing and exits 0
// when all is well; with the argument `mask` it says which mask it was started with.
#include <asm/prctl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <thread>

namespace {

int failures = 0;

void Expect(bool right, const char* what, int round = 0) {
  if (right) return;
  ++failures;
  fprintf(stderr, "wrong: %s (%d, errno %d)\n", what, round, errno);
}

constexpr std::uint64_t Bit(int signal) { return std::uint64_t{1} << (signal - 1); }

long MaskCall(int how, const void* set, void* old, std::size_t size = 8) {
  return syscall(SYS_rt_sigprocmask, how, set, old, size);
}
std::uint64_t Change(int how, std::uint64_t set) {
  std::uint64_t old = 0;
  Expect(MaskCall(how, &set, &old) == 0, "rt_sigprocmask");
  return old;
}
std::uint64_t Mask() {
  std::uint64_t mask = 0;
  Expect(MaskCall(SIG_BLOCK, nullptr, &mask) == 0, "rt_sigprocmask that asks");
  return mask;
}
// What the kernel, or who stands for it, sees.
bool IsPending(int signal) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
}

volatile sig_atomic_t seen = 0;
volatile sig_atomic_t must_not_come = 0;
siginfo_t last_info;
void Handler(int, siginfo_t* info, void*) {
  seen = seen + 1;
  last_info = *info;
  if (must_not_come != 0) abort();
}
void Handle(int signal) {
  struct sigaction action{};
  action.sa_sigaction = Handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(signal, &action, nullptr);
}

// A process that sends `signal` whenever it is asked through shared memory: the asking makes no call.
class Sender {
 public:
  Sender() {
    shared_ = static_cast<Shared*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    child_ = fork();
    if (child_ == 0) Serve(getppid());
  }
  ~Sender() {
    shared_->signal = -1;
    waitpid(child_, nullptr, 0);
    munmap(shared_, 4096);
  }
  void Send(int signal) {
    shared_->signal = signal;
    while (shared_->signal != 0) __builtin_ia32_pause();
    // Time for a signal that is wrongly let in.
    for (int i = 0; i < 3000; ++i) __builtin_ia32_pause();
  }
  pid_t pid() const { return child_; }

 private:
  struct Shared {
    std::atomic<int> signal;
  };
  [[noreturn]] void Serve(pid_t parent) {
    for (int value = 0;; ++value) {
      int signal = 0;
      while ((signal = shared_->signal) == 0) sched_yield();
      if (signal < 0) _exit(0);
      union sigval number{.sival_int = value};
      if (signal >= SIGRTMIN) sigqueue(parent, signal, number);
      else kill(parent, signal);
      shared_->signal = 0;
    }
  }
  Shared* shared_;
  pid_t child_;
};

// A signal that comes after ring 0 has blocked it, and before the host knows.
void BlockedSignalsWait() {
  Sender sender;
  timespec none{};
  sigset_t user{};
  sigaddset(&user, SIGUSR1);
  for (int round = 0; round < 24; ++round) {
    seen = 0;
    Change(SIG_BLOCK, Bit(SIGUSR1));
    must_not_come = 1;
    sender.Send(SIGUSR1);
    if (round % 3 == 0) Expect(IsPending(SIGUSR1), "a signal is pending", round);
    must_not_come = 0;
    if (round % 3 == 1) {
      siginfo_t info{};
      Expect(sigtimedwait(&user, &info, &none) == SIGUSR1, "sigtimedwait", round);
      Expect(info.si_pid == sender.pid() && info.si_code == SI_USER, "who sent it", round);
      Change(SIG_UNBLOCK, Bit(SIGUSR1));
      Expect(seen == 0, "a signal was taken twice", round);
      continue;
    }
    Change(SIG_UNBLOCK, Bit(SIGUSR1));
    Expect(seen == 1, "the signal came with the unblocking", round);
    Expect(last_info.si_pid == sender.pid() && last_info.si_code == SI_USER, "its siginfo", round);
  }
  // Default actions: not while it is blocked. Taken by signalfd.
  Change(SIG_BLOCK, Bit(SIGTERM));
  sender.Send(SIGTERM);
  sigset_t term{};
  sigaddset(&term, SIGTERM);
  const int fd = signalfd(-1, &term, 0);
  signalfd_siginfo info{};
  Expect(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGTERM, "signalfd");
  close(fd);
  Change(SIG_UNBLOCK, Bit(SIGTERM));
  // Queued ones keep their values and their order.
  const int queued = SIGRTMIN + 1;
  Handle(queued);
  Change(SIG_BLOCK, Bit(queued));
  for (int i = 0; i < 5; ++i) sender.Send(queued);
  sigset_t wanted{};
  sigaddset(&wanted, queued);
  for (int i = 0, last = -1; i < 5; ++i) {
    siginfo_t one{};
    Expect(sigtimedwait(&wanted, &one, &none) == queued && one.si_value.sival_int > last, "order", i);
    last = one.si_value.sival_int;
  }
  Change(SIG_UNBLOCK, Bit(queued));
  // sigsuspend lets in what is blocked.
  seen = 0;
  Change(SIG_BLOCK, Bit(SIGUSR1));
  sender.Send(SIGUSR1);
  sigset_t nothing{};
  Expect(sigsuspend(&nothing) == -1 && errno == EINTR && seen == 1, "sigsuspend");
  Expect(Mask() == Bit(SIGUSR1), "the mask after sigsuspend");
  Change(SIG_SETMASK, 0);
}

// Thousands of critical sections under a timer.
void SectionsAreNotInterrupted() {
  Handle(SIGALRM);
  const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 5'000},
                        .it_value = {.tv_sec = 0, .tv_usec = 5'000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  seen = 0;
  for (int round = 0; round < 5'000 || (seen < 5 && round < 20'000'000); ++round) {
    Expect(Change(SIG_BLOCK, Bit(SIGALRM)) == 0, "old mask", round);
    must_not_come = 1;
    Expect(Mask() == Bit(SIGALRM), "mask", round);
    must_not_come = 0;
    Expect(Change(SIG_SETMASK, 0) == Bit(SIGALRM), "old mask of two", round);
  }
  Expect(seen >= 5, "the timer was heard");
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
}

void MasksAreInherited(const char* self) {
  Change(SIG_BLOCK, Bit(SIGUSR1));
  const pid_t child = fork();
  if (child == 0) {
    if (Mask() != Bit(SIGUSR1)) _exit(1);
    Change(SIG_SETMASK, Bit(SIGUSR2) | Bit(SIGKILL) | Bit(SIGSTOP));
    execl(self, self, "mask", nullptr);
    _exit(127);
  }
  int status = -1;
  waitpid(child, &status, 0);
  Expect(status == 0, "fork and exec keep the mask");
  Change(SIG_UNBLOCK, Bit(SIGUSR1));
}

bool Fails(long result, int error) { return result == -1 && errno == error; }

void BadArgumentsFailAsEver() {
  const auto at = [](std::uint64_t address) { return reinterpret_cast<void*>(address); };
  auto* pages = static_cast<char*>(mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(pages + 4096, 4096);
  mprotect(pages + 8192, 4096, PROT_READ);
  const std::uint64_t set = Bit(SIGUSR1);
  const std::uint64_t bad[] = {8, 0x3fff'ffff'fff8, 0x4000'0000'0000, 0x7fff'ffff'f000,
                               0x8000'0000'0000, 0xffff'ff80'0000'2200, ~std::uint64_t{0} - 7,
                               ~std::uint64_t{0}, reinterpret_cast<std::uint64_t>(pages + 4096)};
  for (const std::uint64_t address : bad) {
    Expect(Fails(MaskCall(SIG_BLOCK, at(address), nullptr), EFAULT), "a bad set");
    Expect(Fails(MaskCall(SIG_BLOCK, nullptr, at(address)), EFAULT), "a bad old set");
    Expect(Fails(syscall(SYS_arch_prctl, ARCH_GET_FS, address), EFAULT), "a bad place for FS");
  }
  Expect(Fails(MaskCall(SIG_BLOCK, nullptr, pages + 8192), EFAULT), "a read-only old set");
  Expect(MaskCall(SIG_BLOCK, pages + 8192, nullptr) == 0, "a read-only set");
  Expect(Fails(MaskCall(7, &set, nullptr), EINVAL), "how");
  Expect(Fails(MaskCall(-1, &set, nullptr), EINVAL), "negative how");
  Expect(Fails(MaskCall(SIG_BLOCK, &set, nullptr, 16), EINVAL), "size");
  Expect(Mask() == 0, "the mask after all that");
  // Not aligned, across the end of a page; a page that nobody has touched.
  memcpy(pages + 1, &set, sizeof(set));
  Expect(MaskCall(SIG_SETMASK, pages + 1, pages + 9) == 0, "not aligned");
  Expect(Fails(MaskCall(SIG_BLOCK, pages + 4092, nullptr), EFAULT), "into a hole");
  auto* fresh = static_cast<std::uint64_t*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Expect(MaskCall(SIG_BLOCK, nullptr, fresh) == 0 && *fresh == set, "a fresh page");
  Change(SIG_SETMASK, 0);
  for (const long number : {511L, 600L, 4095L, 0x4000'0027L}) {
    Expect(Fails(syscall(number), ENOSYS), "a number beyond");
  }
}

void BasesAreSetAndFound() {
  std::uint64_t words[2] = {0x1234, 0}, found = 0;
  Expect(syscall(SYS_arch_prctl, ARCH_SET_GS, words) == 0, "ARCH_SET_GS");
  for (int round = 0; round < 2000; ++round) {
    std::uint64_t there = 0;
    asm volatile("movq %%gs:0, %0" : "=r"(there));
    Expect(there == 0x1234, "through GS", round);
    if (round % 100 == 0) getppid();  // an exit keeps it
    Expect(syscall(SYS_arch_prctl, ARCH_GET_GS, &found) == 0, "ARCH_GET_GS", round);
    Expect(found == reinterpret_cast<std::uint64_t>(words), "GS base", round);
  }
  Expect(syscall(SYS_arch_prctl, ARCH_GET_FS, &found) == 0, "ARCH_GET_FS");
  Expect(found == reinterpret_cast<std::uint64_t>(pthread_self()), "FS base");
  Expect(syscall(SYS_arch_prctl, ARCH_SET_FS, found) == 0, "ARCH_SET_FS");
  Expect(Fails(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x8000'0000'0000), EPERM), "a base too high");
  Expect(syscall(SYS_arch_prctl, ARCH_SET_GS, 0) == 0, "no GS");
}

pthread_mutex_t robust;
std::atomic<int> id_word{1};

void ThreadsEndAndAreTold() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  std::thread([] { pthread_mutex_lock(&robust); }).join();
  Expect(pthread_mutex_lock(&robust) == EOWNERDEAD, "the robust list of a thread that ended");
  void* head = nullptr;
  std::size_t size = 0;
  alignas(8) char list[24] = {};
  Expect(syscall(SYS_get_robust_list, 0, &head, &size) == 0 && head != nullptr, "a list");
  void* const before = head;
  Expect(syscall(SYS_set_robust_list, list, 24) == 0, "set_robust_list");
  Expect(syscall(SYS_get_robust_list, 0, &head, &size) == 0 && head == list, "its head");
  Expect(Fails(syscall(SYS_set_robust_list, list, 23), EINVAL), "its size");
  Expect(syscall(SYS_set_robust_list, before, 24) == 0, "set_robust_list back");
  std::thread([] {
    Expect(syscall(SYS_set_tid_address, &id_word) == gettid(), "set_tid_address");
  }).detach();
  while (id_word != 0) sched_yield();
  // Two that wait for each other, on however many processors.
  static std::atomic<int> turn{0};
  std::thread other([] {
    for (int i = 0; i < 300; ++i) {
      while (turn != 1) Expect(sched_yield() == 0, "sched_yield");
      turn = 0;
    }
  });
  for (int i = 0; i < 300; ++i) {
    turn = 1;
    while (turn != 0) sched_yield();
  }
  other.join();
}

long Futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, std::uint64_t more = 0,
           void* second = nullptr, std::uint32_t expected = 0) {
  return syscall(SYS_futex, &word, operation, value, more, second, expected);
}

std::atomic<std::uint32_t> baton{0}, other_word{0};

// No wake may be lost between the one who looks and sleeps and the one who changes and wakes.
void WaitersAreWoken() {
  constexpr std::uint32_t kRounds = 1000;
  const timespec long_enough{.tv_sec = 20, .tv_nsec = 0};
  const auto until = reinterpret_cast<std::uint64_t>(&long_enough);
  const auto wait_for = [until](std::uint32_t wanted) {
    for (std::uint32_t now = baton; now != wanted; now = baton) {
      const long result = Futex(baton, FUTEX_WAIT_PRIVATE, now, until);
      if (result == -1 && errno == ETIMEDOUT) {
        Expect(false, "a wake was lost", static_cast<int>(wanted));
        exit(1);
      }
    }
  };
  const auto pass = [](std::uint32_t value) {
    baton = value;
    Expect(Futex(baton, FUTEX_WAKE_PRIVATE, 1) >= 0, "wake");
  };
  for (int i = 0; i < 2000; ++i) {
    Expect(Futex(other_word, FUTEX_WAKE_PRIVATE, 1) == 0, "nobody to wake");
  }
  Expect(Fails(syscall(SYS_futex, reinterpret_cast<char*>(&baton) + 1, FUTEX_WAKE_PRIVATE, 1), EINVAL),
         "a word that is not aligned");
  std::thread partner([&] {
    for (std::uint32_t i = 0; i < kRounds; ++i) {
      wait_for(2 * i + 1);
      pass(2 * i + 2);
    }
  });
  for (std::uint32_t i = 0; i < kRounds; ++i) {
    pass(2 * i + 1);
    wait_for(2 * i + 2);
  }
  partner.join();
  // Who has been moved to another word is found there.
  std::thread moved([&] { Futex(baton, FUTEX_WAIT_PRIVATE, 2 * kRounds, until); });
  while (Futex(baton, FUTEX_CMP_REQUEUE_PRIVATE, 0, 1, &other_word, 2 * kRounds) != 1) sched_yield();
  Expect(Futex(other_word, FUTEX_WAKE_PRIVATE, 1) == 1, "woken where it was moved to");
  moved.join();
}

// A signal to the process is the business of the thread that lets it in.
void TheOtherThreadTakesIt() {
  static std::atomic<int> stage{0};
  static std::atomic<pid_t> taker{0};
  Handle(SIGUSR2);
  std::thread other([] {
    taker = gettid();
    while (stage == 0) __builtin_ia32_pause();
  });
  while (taker == 0) sched_yield();
  for (int round = 0; round < 20; ++round) {
    seen = 0;
    Change(SIG_BLOCK, Bit(SIGUSR2));
    kill(getpid(), SIGUSR2);
    while (seen == 0) __builtin_ia32_pause();
    Expect(!IsPending(SIGUSR2), "taken by the other thread", round);
    Change(SIG_UNBLOCK, Bit(SIGUSR2));
  }
  stage = 1;
  other.join();
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1) return Mask() == Bit(SIGUSR2) ? 0 : 1;
  Handle(SIGUSR1);
  BlockedSignalsWait();
  SectionsAreNotInterrupted();
  MasksAreInherited(arguments[0]);
  BadArgumentsFailAsEver();
  BasesAreSetAndFound();
  ThreadsEndAndAreTold();
  WaitersAreWoken();
  TheOtherThreadTakesIt();
  return failures == 0 ? 0 : 1;
}
