// Signals that come from outside while a program computes, blocks, or handles another.
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

static volatile sig_atomic_t alarms, depth, deepest, users;
static int pipe_ends[2];
static int write_in_handler;

static void on_alarm(int signal) {
  (void)signal;
  ++alarms;
  if (write_in_handler && alarms == 2) EXPECT(write(pipe_ends[1], "x", 1) == 1);
}

static void set_timer(int microseconds) {
  struct itimerval timer = {{0, microseconds}, {0, microseconds}};
  EXPECT(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  EXPECT(sigaction(signal, &action, NULL) == 0);
}

static void busy_loop(void) {
  handle(SIGALRM, on_alarm, 0);
  set_timer(2000);
  volatile uint64_t count = 0;
  while (alarms < 10) ++count;
  set_timer(0);
  printf("a busy loop was interrupted\n");
}

static void blocked_read(void) {
  char byte;
  alarms = 0;
  handle(SIGALRM, on_alarm, 0);
  set_timer(20000);
  errno = 0;
  const ssize_t interrupted = read(pipe_ends[0], &byte, 1);
  printf("read without SA_RESTART: %zd, %s\n", interrupted, strerror(errno));
  set_timer(0);
  alarms = 0;
  write_in_handler = 1;
  handle(SIGALRM, on_alarm, SA_RESTART);
  set_timer(20000);
  const ssize_t restarted = read(pipe_ends[0], &byte, 1);
  set_timer(0);
  write_in_handler = 0;
  printf("read with SA_RESTART: %zd, after at least two signals: %d\n", restarted, alarms >= 2);
}

static void waits(void) {
  sigset_t alarm, before, during;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  EXPECT(sigprocmask(SIG_BLOCK, &alarm, &before) == 0);
  handle(SIGALRM, on_alarm, 0);

  alarms = 0;
  set_timer(10000);
  int result = sigsuspend(&before);
  printf("sigsuspend: %d, %s, handled %d\n", result, strerror(errno), alarms >= 1);
  EXPECT(sigprocmask(SIG_BLOCK, NULL, &during) == 0);
  printf("blocked again: %d\n", sigismember(&during, SIGALRM));

  alarms = 0;
  struct pollfd descriptor = {.fd = pipe_ends[0], .events = POLLIN};
  result = ppoll(&descriptor, 1, NULL, &before);
  printf("ppoll: %d, %s, handled %d\n", result, strerror(errno), alarms >= 1);

  alarms = 0;
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(pipe_ends[0], &readable);
  result = pselect(pipe_ends[0] + 1, &readable, NULL, NULL, NULL, &before);
  printf("pselect: %d, %s, handled %d\n", result, strerror(errno), alarms >= 1);

  siginfo_t info;
  result = sigwaitinfo(&alarm, &info);
  printf("sigwaitinfo: %d, code is SI_KERNEL: %d\n", result == SIGALRM, info.si_code == SI_KERNEL);
  set_timer(0);

  struct timespec short_time = {0, 1000000};
  while (sigtimedwait(&alarm, &info, &short_time) == SIGALRM) {
  }
  printf("sigtimedwait: %s\n", strerror(errno));
  EXPECT(sigprocmask(SIG_SETMASK, &before, NULL) == 0);

  alarms = 0;
  // Again and again: on a busy machine the first can come before it sleeps.
  set_timer(20000);
  struct timespec long_time = {5, 0}, rest = {0, 0};
  result = nanosleep(&long_time, &rest);
  const char* error = strerror(errno);
  set_timer(0);
  printf("nanosleep: %d, %s, rest below 5 s: %d\n", result, error, rest.tv_sec < 5 && rest.tv_sec + rest.tv_nsec > 0);
}

static void on_user(int signal) {
  ++users;
  ++depth;
  if (depth > deepest) deepest = depth;
  if (users < 5) raise(signal);
  --depth;
}

static void on_outer(int signal) {
  (void)signal;
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  printf("in the handler: USR1 blocked %d, USR2 blocked %d, HUP blocked %d\n", sigismember(&now, SIGUSR1),
         sigismember(&now, SIGUSR2), sigismember(&now, SIGHUP));
  raise(SIGUSR2);
}

static void on_inner(int signal) {
  (void)signal;
  printf("nested handler\n");
}

static void handlers(void) {
  handle(SIGUSR1, on_user, 0);
  raise(SIGUSR1);
  printf("without SA_NODEFER: %d signals, depth %d\n", users, deepest);
  users = depth = deepest = 0;
  handle(SIGUSR1, on_user, SA_NODEFER);
  raise(SIGUSR1);
  printf("with SA_NODEFER: %d signals, depth %d\n", users, deepest);

  struct sigaction outer = {.sa_handler = on_outer};
  sigaddset(&outer.sa_mask, SIGHUP);
  EXPECT(sigaction(SIGUSR1, &outer, NULL) == 0);
  handle(SIGUSR2, on_inner, 0);
  raise(SIGUSR1);

  handle(SIGUSR2, on_inner, (int)SA_RESETHAND);
  raise(SIGUSR2);
  struct sigaction now;
  EXPECT(sigaction(SIGUSR2, NULL, &now) == 0);
  printf("after SA_RESETHAND: default %d\n", now.sa_handler == SIG_DFL);

  // Pending while blocked, delivered at once when unblocked, a standard signal only once.
  handle(SIGUSR2, on_inner, 0);
  sigset_t user, old, pending;
  sigemptyset(&user);
  sigaddset(&user, SIGUSR2);
  EXPECT(sigprocmask(SIG_BLOCK, &user, &old) == 0);
  raise(SIGUSR2);
  raise(SIGUSR2);
  EXPECT(sigpending(&pending) == 0);
  printf("pending: %d\n", sigismember(&pending, SIGUSR2));
  EXPECT(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
  printf("unblocked\n");
}

static void on_queued(int signal, siginfo_t* info, void* context) {
  (void)context;
  printf("queued: signal %d code %d value %d own pid %d\n", signal - SIGRTMIN, info->si_code, info->si_value.sival_int,
         info->si_pid == getpid());
}

static void queued(void) {
  struct sigaction action = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO};
  EXPECT(sigaction(SIGRTMIN + 1, &action, NULL) == 0 && sigaction(SIGRTMIN + 2, &action, NULL) == 0);
  sigset_t both, old;
  sigemptyset(&both);
  sigaddset(&both, SIGRTMIN + 1);
  sigaddset(&both, SIGRTMIN + 2);
  EXPECT(sigprocmask(SIG_BLOCK, &both, &old) == 0);
  for (int i = 0; i < 4; ++i) {
    EXPECT(sigqueue(getpid(), SIGRTMIN + 2 - i % 2, (union sigval){.sival_int = i}) == 0);
  }
  EXPECT(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
  printf("all delivered\n");
}

int main(void) {
  EXPECT(pipe(pipe_ends) == 0);
  busy_loop();
  blocked_read();
  waits();
  handlers();
  queued();
  return 0;
}
