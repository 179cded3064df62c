// Signals of the processor's kind that somebody sends: blocked they are pending like others, and nobody notices them before
// their time.
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

static const int kNumbers[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
enum { kCount = sizeof(kNumbers) / sizeof(kNumbers[0]) };

static volatile int order[16];
static volatile int handled;

static void note(int number) { order[handled++] = number; }

static sigset_t only(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  return set;
}

static void handle(int number) {
  struct sigaction action = {.sa_handler = note};
  EXPECT(sigaction(number, &action, NULL) == 0);
}

static void pending_and_suspend(int number) {
  sigset_t set = only(number), none, pending;
  sigemptyset(&none);
  handle(number);
  EXPECT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  EXPECT(kill(getpid(), number) == 0);
  EXPECT(sigpending(&pending) == 0 && sigismember(&pending, number) == 1);
  handled = 0;
  EXPECT(sigsuspend(&none) == -1 && errno == EINTR && handled == 1 && order[0] == number);
  EXPECT(sigpending(&pending) == 0 && sigismember(&pending, number) == 0);
  EXPECT(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}

static void wait_for_it(int number) {
  sigset_t set = only(number);
  EXPECT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  union sigval value = {.sival_int = 47};
  EXPECT(sigqueue(getpid(), number, value) == 0);
  siginfo_t info;
  const struct timespec second = {.tv_sec = 1};
  EXPECT(sigtimedwait(&set, &info, &second) == number);
  EXPECT(info.si_code == SI_QUEUE && info.si_value.sival_int == 47);
  const struct timespec short_time = {.tv_nsec = 1000000};
  EXPECT(sigtimedwait(&set, &info, &short_time) == -1 && errno == EAGAIN);
  EXPECT(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}

static pid_t waiting;
static int ends[2];

static void* disturb(void* unused) {
  (void)unused;
  usleep(100000);
  EXPECT(syscall(SYS_tgkill, getpid(), waiting, SIGTRAP) == 0);
  usleep(100000);
  EXPECT(write(ends[1], "x", 1) == 1);
  return NULL;
}

// A thread that blocks it and waits is not woken.
static void read_on(void) {
  sigset_t set = only(SIGTRAP);
  EXPECT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  EXPECT(pipe(ends) == 0);
  waiting = (pid_t)syscall(SYS_gettid);
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, disturb, NULL) == 0);
  char byte = 0;
  EXPECT(read(ends[0], &byte, 1) == 1 && byte == 'x');
  EXPECT(pthread_join(thread, NULL) == 0);
  handle(SIGTRAP);
  handled = 0;
  EXPECT(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
  EXPECT(handled == 1);
}

// Delivered before others, so that its handler runs behind theirs.
static void come_first(void) {
  sigset_t all, before;
  sigfillset(&all);
  handle(SIGUSR1);
  handle(SIGSEGV);
  EXPECT(sigprocmask(SIG_SETMASK, &all, &before) == 0);
  EXPECT(raise(SIGUSR1) == 0 && raise(SIGSEGV) == 0);
  handled = 0;
  EXPECT(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
  EXPECT(handled == 2);
  printf("%d, %d\n", order[0], order[1]);
}

int main(int argc, char** argv) {
  if (argc > 1) {
    sigset_t pending;
    EXPECT(sigpending(&pending) == 0);
    printf("after execve:");
    for (int i = 0; i < kCount; ++i) printf(" %d", sigismember(&pending, kNumbers[i]));
    printf(" %d\n", sigismember(&pending, SIGUSR2));
    return 0;
  }
  alarm(60);
  for (int i = 0; i < kCount; ++i) {
    pending_and_suspend(kNumbers[i]);
    wait_for_it(kNumbers[i]);
  }
  read_on();
  come_first();
  fflush(stdout);
  sigset_t all;
  sigfillset(&all);
  EXPECT(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
  EXPECT(raise(SIGTRAP) == 0 && kill(getpid(), SIGSEGV) == 0 && raise(SIGUSR2) == 0);
  execl(argv[0], argv[0], "again", NULL);
  EXPECT(!"reached");
}
