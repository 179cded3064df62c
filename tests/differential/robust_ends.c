// Processes that end, or execute another program, with robust mutexes that others share: whoever comes next is told.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

struct shared {
  pthread_mutex_t first, second;
};
static struct shared* shared;

static void make(pthread_mutex_t* mutex) {
  pthread_mutexattr_t attributes;
  EXPECT(pthread_mutexattr_init(&attributes) == 0);
  EXPECT(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
  EXPECT(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
  EXPECT(pthread_mutex_init(mutex, &attributes) == 0);
}

static int locked[2];

static void* lock_second(void* unused) {
  (void)unused;
  EXPECT(pthread_mutex_lock(&shared->second) == 0);
  EXPECT(write(locked[1], "x", 1) == 1);
  for (;;) getppid();
}

// While another thread, which is busy, has the second one.
static void with_another(void) {
  EXPECT(pipe(locked) == 0);
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, lock_second, NULL) == 0);
  char byte;
  EXPECT(read(locked[0], &byte, 1) == 1);
}

static void end_group(void) { _exit(5); }
static void end_thread(void) { syscall(SYS_exit, 6); }
static void crash(void) { *(volatile int*)8 = 1; }
static void trap(void) { __builtin_trap(); }
static void execute(void) { execl("/bin/true", "true", NULL); }
static void end_group_of_two(void) {
  with_another();
  _exit(7);
}
static void crash_of_two(void) {
  with_another();
  crash();
}
static void execute_of_two(void) {
  with_another();
  execute();
}

static void lock_again(const char* name, pthread_mutex_t* mutex) {
  struct timespec limit;
  EXPECT(clock_gettime(CLOCK_REALTIME, &limit) == 0);
  limit.tv_sec += 3;
  const int result = pthread_mutex_timedlock(mutex, &limit);
  printf(" %s %s", name, result == EOWNERDEAD ? "died" : strerror(result));
  EXPECT(result == 0 || result == EOWNERDEAD);
  if (result == EOWNERDEAD) EXPECT(pthread_mutex_consistent(mutex) == 0);
  EXPECT(pthread_mutex_unlock(mutex) == 0);
}

int main(void) {
  shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(shared != MAP_FAILED);
  make(&shared->first);
  make(&shared->second);
  void (*const ends[])(void) = {end_group, end_thread,      crash,        trap,
                                execute,   end_group_of_two, crash_of_two, execute_of_two};
  for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); ++i) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      EXPECT(pthread_mutex_lock(&shared->first) == 0);
      ends[i]();
      _exit(9);
    }
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    printf("%zu: %x", i, (unsigned)status & 0xff7f);
    lock_again("first", &shared->first);
    lock_again("second", &shared->second);
    printf("\n");
  }
  return 0;
}
