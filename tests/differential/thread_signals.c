// Signals for threads that begin and end: each comes to its own thread, and a thread that ends wakes whoever waits for
// it. Raw threads, because the C library's block signals at both ends; another one sends, from before they run.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

enum { kSeconds = 3, kSignals = 200, kStack = 65536 };

static pid_t first;
static volatile int misled;  // signals that came to the first thread
static int word;      // the thread's id, or 0 when it is gone

static void on_signal(int number) {
  (void)number;
  if (syscall(SYS_gettid) == first) ++misled;
}

static void* send(void* unused) {
  (void)unused;
  for (int last = 0, sent = 0;;) {
    const int thread = __atomic_load_n(&word, __ATOMIC_SEQ_CST);
    if (thread <= 0) continue;
    sent = thread == last ? sent + 1 : 0;
    last = thread;
    if (sent < kSignals) syscall(SYS_tgkill, first, thread, SIGUSR1);  // or it would do nothing else
  }
  return NULL;
}

static int end_at_once(void* unused) {
  (void)unused;
  syscall(SYS_exit, 0);
  return 0;
}

static int thread_left(void) { return __atomic_load_n(&word, __ATOMIC_SEQ_CST); }

// False: it is gone, and nobody has been told.
static int was_woken(void) {
  const struct timespec limit = {2, 0};
  int value;
  while ((value = thread_left()) != 0) {
    const long waited = syscall(SYS_futex, &word, FUTEX_WAIT, value, &limit, NULL, 0);
    if (waited != 0 && errno == ETIMEDOUT && thread_left() == 0) return 0;
  }
  return 1;
}

int main(void) {
  first = getpid();
  const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
  char* const stack = mmap(NULL, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(stack != MAP_FAILED);
  pthread_t sender;
  EXPECT(pthread_create(&sender, NULL, send, NULL) == 0);
  alarm(60);  // a thread that never goes on
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    word = -1;
    const pid_t thread =
        clone(end_at_once, stack + kStack,
              CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
              NULL, &word, NULL, &word);
    EXPECT(thread > 0);
    EXPECT(was_woken());
    EXPECT(misled == 0);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < kSeconds);
  printf("to their own threads, and nobody waits\n");
  return 0;
}
