// Processes started from many threads at once by vfork, posix_spawn, fork and system, while the others compute.
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../expect.h"

enum { kThreads = 4, kEach = 6 };
static atomic_bool stop;
static atomic_long computed;
extern char** environ;

static int wait_for(pid_t child) {
  int status;
  EXPECT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void* start(void* argument) {
  const long number = (long)argument;
  volatile long sum = 0;
  for (volatile int i = 0; i < kEach; i = i + 1) {
    char command[32];
    snprintf(command, sizeof(command), "exit %ld", (number * kEach + i) % 50);
    char* const arguments[] = {"sh", "-c", command, NULL};
    pid_t child;
    switch (i % 3) {
      case 0:
        child = vfork();
        if (child == 0) {
          execve("/bin/sh", arguments, environ);
          _exit(127);
        }
        break;
      case 1:
        EXPECT(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0);
        break;
      default:
        child = fork();
        if (child == 0) _exit((int)(number * kEach + i) % 50);
        break;
    }
    sum = sum * 3 + wait_for(child);
  }
  return (void*)sum;
}

__attribute__((noinline)) static long fibonacci(long n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static void* compute(void* unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    EXPECT(fibonacci(18) == 2584);
    atomic_fetch_add(&computed, 1);
  }
  return NULL;
}

// The child works on its parent's stack frame for a while, through calls, and its exit comes out of a callee.
static void leave(int depth);
static void (*volatile next_leave)(int) = leave;

static void leave(int depth) {
  if (depth == 0) _exit((int)fibonacci(10));
  next_leave(depth - 1);
  __asm__ volatile("");
}

int main(void) {
  pthread_t threads[kThreads], computing;
  EXPECT(pthread_create(&computing, NULL, compute, NULL) == 0);
  for (long i = 0; i < kThreads; ++i) EXPECT(pthread_create(&threads[i], NULL, start, (void*)i) == 0);
  for (int i = 0; i < kThreads; ++i) {
    void* sum;
    EXPECT(pthread_join(threads[i], &sum) == 0);
    printf("thread %d: %lx\n", i, (long)sum);
  }
  atomic_store(&stop, 1);
  EXPECT(pthread_join(computing, NULL) == 0 && computed > 0);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = vfork();
    if (child == 0) leave(20);
    EXPECT(wait_for(child) == 55);
  }
  printf("vfork: ok\n");
  return 0;
}
