// Signals that come at an inconvenient moment: none is lost, and none does what its action no longer says.
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

enum { kQueued = 3000, kStops = 400, kPrograms = 40 };

static volatile int next, wrong;

static void count(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  wrong += info->si_value.sival_int != next;
  next = info->si_value.sival_int + 1;
}

static void ignore_it(int number) { (void)number; }
static void leave(int number) { _exit(number); }

static void on(int number, void (*handler)(int)) {
  struct sigaction action = {.sa_handler = handler};
  EXPECT(sigaction(number, &action, NULL) == 0);
}

static void pause_for(long nanoseconds) {
  const struct timespec time = {.tv_nsec = nanoseconds};
  nanosleep(&time, NULL);
}

static void wait_until(atomic_int* word, int value) {
  while (atomic_load(word) != value) pause_for(100000);
}

// Queued ones, while the mask is set all the time.
static void queued(atomic_int* ready) {
  const pid_t child = fork();
  if (child == 0) {
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO};
    EXPECT(sigaction(SIGRTMIN, &action, NULL) == 0);
    sigset_t other;
    sigemptyset(&other);
    sigaddset(&other, SIGUSR2);
    atomic_store(ready, 1);
    alarm(60);
    while (next != kQueued) {
      sigprocmask(SIG_BLOCK, &other, NULL);
      sigprocmask(SIG_UNBLOCK, &other, NULL);
    }
    _exit(wrong != 0);
  }
  wait_until(ready, 1);
  for (int i = 0; i < kQueued; ++i) {
    const union sigval value = {.sival_int = i};
    while (sigqueue(child, SIGRTMIN, value) != 0) sched_yield();
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child);
  printf("queued: %x\n", (unsigned)status);
}

// Job control's, while its action becomes the default.
static void stopped(atomic_int* ready) {
  const pid_t child = fork();
  if (child == 0) {
    EXPECT(setpgid(0, 0) == 0);
    atomic_store(ready, 2);
    while (atomic_load(ready) == 2) {
      on(SIGTSTP, ignore_it);
      on(SIGTSTP, SIG_DFL);
    }
    _exit(0);
  }
  wait_until(ready, 2);
  int status = 0;
  pid_t ended = 0;
  for (int i = 0; i < kStops && ended == 0; ++i) {
    EXPECT(kill(child, SIGTSTP) == 0);
    pause_for(50000);
    EXPECT(kill(child, SIGCONT) == 0);
    pause_for(20000 + i * 7919L % 90000);
    ended = waitpid(child, &status, WNOHANG);
  }
  atomic_store(ready, 3);
  if (ended == 0) EXPECT(waitpid(child, &status, 0) == child);
  printf("stopped: %x\n", (unsigned)status);
}

// Whoever executes another program with a handler: either that runs, or the other program is ended.
static void executing(void) {
  int lost = 0;
  for (int i = 0; i < kPrograms; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      on(SIGTERM, leave);
      execl("/bin/sleep", "sleep", "1", NULL);
      _exit(99);
    }
    pause_for(75000L * (i + 1));
    EXPECT(kill(child, SIGTERM) == 0);
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    lost += status != SIGTERM && status != SIGTERM << 8;
  }
  printf("executing: %d lost\n", lost);
}

int main(void) {
  atomic_int* const ready = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(ready != MAP_FAILED);
  queued(ready);
  fflush(stdout);
  stopped(ready);
  fflush(stdout);
  executing();
  return 0;
}
