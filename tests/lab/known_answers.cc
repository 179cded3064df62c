// Calls that ring 0 may answer by itself: right every time, in threads and children, while signals
// strike. For the sandbox only: natively other calls are refused. Says nothing and exits 0 when all is well. With an
// argument: under a policy that refuses getpgrp with ENOENT.
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

namespace {

constexpr long kRounds = 20'000;
std::atomic<long> ticks{0};
std::atomic<int> failures{0};

void Expect(bool right, const char* what) {
  if (right) return;
  ++failures;
  fprintf(stderr, "wrong: %s\n", what);
}

bool IsRefused(long number, int error) {
  errno = 0;
  return syscall(number, 0, 0, 0, 0) == -1 && errno == error;
}

// The call must keep registers, too.
long RawCall(long number) {
  long result = number;
  register long kept __asm__("r12") = 0x1234'5678;
  __asm__ volatile("syscall" : "+a"(result), "+r"(kept) : : "rcx", "r11", "memory");
  Expect(kept == 0x1234'5678, "a register");
  return result;
}

void AskOften(long pid, long tid) {
  for (long i = 0; i < kRounds && failures == 0; ++i) {
    Expect(RawCall(SYS_getpid) == pid, "getpid");
    Expect(RawCall(SYS_gettid) == tid, "gettid");
    Expect(RawCall(SYS_getuid) == 0, "getuid");
    Expect(IsRefused(SYS_ptrace, EPERM), "a denied call");
    Expect(IsRefused(SYS_io_setup, ENOSYS), "an absent call");
  }
}

int StatusOfChild(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

// Under a policy that refuses getpgrp: always the same, whoever asks.
int AskWhatIsRefused() {
  const auto ask = [] {
    for (long i = 0; i < kRounds && failures == 0; ++i) {
      Expect(IsRefused(SYS_getpgrp, ENOENT), "a refused call");
      Expect(RawCall(SYS_getppid) >= 0, "a call between");
      i += 100;
    }
    for (long i = 0; i < kRounds && failures == 0; ++i) Expect(IsRefused(SYS_getpgrp, ENOENT), "a refused call");
  };
  ask();
  std::thread(ask).join();
  const pid_t forked = fork();
  if (forked == 0) {
    ask();
    _exit(failures == 0 ? 0 : 1);
  }
  Expect(StatusOfChild(forked) == 0, "the forked child");
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char**) {
  if (count > 1) return AskWhatIsRefused();
  signal(SIGALRM, [](int) {
    ++ticks;
    Expect(RawCall(SYS_getpid) == getpid(), "getpid in a handler");
  });
  const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 20'000},
                        .it_value = {.tv_sec = 0, .tv_usec = 20'000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  const long pid = getpid();
  AskOften(pid, pid);
  // Nothing but answered calls from here to the signal: it must come all the same.
  for (const long before = ticks; ticks == before;) RawCall(SYS_getpid);
  std::thread([pid] { AskOften(pid, syscall(SYS_gettid)); }).join();

  const pid_t forked = fork();
  if (forked == 0) {
    Expect(RawCall(SYS_getpid) != pid && RawCall(SYS_getpid) == RawCall(SYS_gettid), "fork");
    Expect(setgid(7) == 0 && setuid(5) == 0, "setuid");
    Expect(RawCall(SYS_getuid) == 5 && RawCall(SYS_geteuid) == 5, "getuid after setuid");
    Expect(RawCall(SYS_getgid) == 7 && RawCall(SYS_getegid) == 7, "getgid after setgid");
    _exit(failures == 0 ? 0 : 1);
  }
  Expect(StatusOfChild(forked) == 0, "the forked child");
  const pid_t vforked = vfork();
  if (vforked == 0) _exit(RawCall(SYS_getpid) != pid ? 0 : 1);
  Expect(StatusOfChild(vforked) == 0, "the vforked child");
  Expect(RawCall(SYS_getpid) == pid, "getpid after vfork");
  return failures == 0 ? 0 : 1;
}
