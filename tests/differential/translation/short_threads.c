// Threads that end after a moment, one after the other and many at a time: each begins as a thread does, whatever the one before
// it has done, and runs the code that is there now. With signals, forks and detached threads in between.
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

#include "code.h"

static unsigned char* page;
static __thread long own = 7;
static atomic_long handled;
static atomic_int detached;
static sem_t go, done;

static void count(int signal) {
  (void)signal;
  atomic_fetch_add(&handled, 1);
}

static void expect_a_fresh_thread(void) {
  EXPECT(own == 7);
  EXPECT(_mm_getcsr() == 0x1f80);
  stack_t stack;
  sigset_t mask, pending;
  EXPECT(sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_DISABLE) != 0);
  EXPECT(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGUSR2) == 0);
  EXPECT(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2) == 0);
}

// Leaves behind what a thread can: rounding, an alternate stack, a pending signal.
static void* run_and_litter(void* argument) {
  expect_a_fresh_thread();
  const long result = call_code(page, (long)argument);
  static _Thread_local char stack_memory[16384];
  const stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof(stack_memory)};
  sigset_t mask;
  own = 1;
  _mm_setcsr(0x7f80);
  EXPECT(sigaltstack(&stack, NULL) == 0);
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR2);
  EXPECT(pthread_sigmask(SIG_BLOCK, &mask, NULL) == 0);
  EXPECT(pthread_kill(pthread_self(), SIGUSR2) == 0);
  return (void*)result;
}

static long run_thread(long argument) {
  pthread_t thread;
  void* result;
  EXPECT(pthread_create(&thread, NULL, run_and_litter, (void*)argument) == 0);
  EXPECT(pthread_join(thread, &result) == 0);
  return (long)result;
}

// The code changes between the end of one thread and the beginning of the next, and its address does not.
static void one_by_one(int threads) {
  long sum = 0;
  for (int i = 0; i < threads; ++i) {
    put_linear(page, i, i * 3);
    sum = sum * 3 + run_thread(i);
  }
  printf("one by one: %lx\n", sum);
}

static void* wait_and_run(void* argument) {
  sem_post(&done);
  while (sem_wait(&go) != 0) EXPECT(errno == EINTR);
  return (void*)call_code(page, (long)argument);
}

static void at_a_time(int threads) {
  pthread_t* const all = malloc((size_t)threads * sizeof(pthread_t));
  long sum = 0;
  for (long i = 0; i < threads; ++i) {
    EXPECT(pthread_create(&all[i], NULL, wait_and_run, (void*)i) == 0);
    while (sem_wait(&done) != 0) EXPECT(errno == EINTR);
  }
  put_linear(page, 5, threads);
  for (int i = 0; i < threads; ++i) EXPECT(pthread_kill(all[i], SIGUSR1) == 0);
  for (int i = 0; i < threads; ++i) sem_post(&go);
  for (int i = 0; i < threads; ++i) {
    void* result;
    EXPECT(pthread_join(all[i], &result) == 0);
    sum += (long)result;
  }
  free(all);
  printf("%d at a time: %lx\n", threads, sum);
}

static void* run_detached(void* argument) {
  (void)call_code(page, (long)argument);
  atomic_fetch_add(&detached, 1);
  return NULL;
}

static void without_anybody_waiting(int threads) {
  pthread_attr_t attributes;
  EXPECT(pthread_attr_init(&attributes) == 0);
  EXPECT(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
  for (long i = 0; i < threads; ++i) {
    pthread_t thread;
    EXPECT(pthread_create(&thread, &attributes, run_detached, (void*)i) == 0);
    // Some have begun, some have ended by then, some have not.
    EXPECT(kill(getpid(), SIGUSR1) == 0);
  }
  while (atomic_load(&detached) < threads) usleep(1000);
  printf("detached: %d\n", threads);
}

// With what ended threads of the parent have left, and the child's own after that.
static void forks(int times) {
  for (int i = 0; i < times; ++i) {
    run_thread(i);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      long sum = 0;
      for (int turn = 0; turn < 4; ++turn) {
        put_linear(page, i, turn);
        sum += run_thread(turn);
      }
      at_a_time(6);
      _exit((int)(sum & 0x3f));
    }
    put_linear(page, 2, i);
    const long answer = run_thread(i);
    int status;
    EXPECT(answer == 3 * i);
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    printf("fork %d: %d\n", i, WEXITSTATUS(status));
  }
}

// In the memory of a thread that had ended before somebody else forked.
static void* fork_and_run(void* argument) {
  const pid_t child = fork();
  if (child == 0) {
    const long sum = call_code(page, (long)argument) + run_thread(2);
    _exit((int)sum & 0x3f);
  }
  int status;
  EXPECT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
  return (void*)(long)WEXITSTATUS(status);
}

static void threads_that_fork(int threads) {
  put_linear(page, 3, 1);
  for (long i = 0; i < threads; ++i) {
    pthread_t thread;
    void* result;
    EXPECT(pthread_create(&thread, NULL, fork_and_run, (void*)i) == 0);
    EXPECT(pthread_join(thread, &result) == 0);
    printf("fork in thread %ld: %ld\n", i, (long)result);
  }
}

int main(void) {
  page = map_code(4096, kRwx);
  const struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
  EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
  EXPECT(sem_init(&go, 0, 0) == 0 && sem_init(&done, 0, 0) == 0);
  one_by_one(200);
  at_a_time(100);
  one_by_one(20);
  without_anybody_waiting(100);
  forks(4);
  threads_that_fork(3);
  at_a_time(100);
  EXPECT(atomic_load(&handled) > 0);
  return 0;
}
