// Processes, threads and the time they take.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/security/abuse/abuse.h"

static int* made;

static double Seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Every process tries for ever, as does every one that comes of it.
int ForkBomb(void) {
  made = SharedCounter();
  const double start = Seconds();
  while (Seconds() - start < kMostSeconds) {
    const pid_t child = fork();
    if (child == 0 && __atomic_add_fetch(made, 1, __ATOMIC_SEQ_CST) > kMostTasks) Escaped("tasks");
    if (child < 0) sched_yield();
  }
  return 1;
}

static void* ThreadOfBomb(void* unused) {
  (void)unused;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  for (;;) {
    pthread_t thread;
    const int error = pthread_create(&thread, &small, ThreadOfBomb, NULL);
    if (error == 0 && __atomic_add_fetch(made, 1, __ATOMIC_SEQ_CST) > kMostTasks)
      Escaped("threads");
    if (error != 0) {
      printf("%d threads, then %s\n", *made, strerrorname_np(error));
      fflush(stdout);
      _exit(3);
    }
  }
}

// Each thread makes more of them, until one is refused.
int ThreadBomb(void) {
  made = SharedCounter();
  ThreadOfBomb(NULL);
  return 1;
}

static void Burn(void) {
  const double start = Seconds();
  while (Seconds() - start < kMostSeconds) {
  }
  Escaped("time");
}

// Four, deaf to what can be ignored, one of them in a session of its own.
int BusyLoop(void) {
  for (int i = 0; i < 3; ++i) {
    if (fork() != 0) continue;
    if (i == 0) setsid();
    for (int signal = 1; signal < NSIG; ++signal)
      (void)sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    Burn();
  }
  Burn();
  return 1;
}

// Each is gone before anybody can look at it. `by_kernel`: their parent does not want to know.
static int ManyShortChildren(int by_kernel) {
  if (by_kernel) signal(SIGCHLD, SIG_IGN);
  const double start = Seconds();
  while (Seconds() - start < kMostSeconds) {
    const pid_t child = fork();
    if (child == 0) {
      for (volatile int i = 0; i < 3000000; ++i) {
      }
      _exit(0);
    }
    if (child > 0) waitpid(child, NULL, 0);
  }
  Escaped("time");
  return 1;
}
int ShortChildren(void) { return ManyShortChildren(0); }
int ForgottenChildren(void) { return ManyShortChildren(1); }

// The first process stops, as by Ctrl-Z, and another one does not.
int BusyBehindStop(void) {
  if (fork() == 0) Burn();
  raise(SIGSTOP);
  Escaped("its stop");
  return 1;
}
