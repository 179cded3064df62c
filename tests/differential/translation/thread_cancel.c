// pthread_cancel, asynchronous and deferred, with clean-up handlers and destructors of thread-local data; thread-local variables and
// once-only initialization seen from many threads.
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include "../expect.h"

static atomic_int cleaned, destroyed, initialized;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t started;
static _Thread_local long counter = 100;
static _Thread_local char buffer[5000];

static void clean(void* amount) { atomic_fetch_add(&cleaned, (int)(long)amount); }
static void destroy(void* value) {
  (void)value;
  atomic_fetch_add(&destroyed, 1);
}
static void initialize(void) { atomic_fetch_add(&initialized, 1); }

static void* spin(void* unused) {
  (void)unused;
  int old;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
  EXPECT(pthread_setspecific(key, &key) == 0);
  pthread_cleanup_push(clean, (void*)1L);
  sem_post(&started);
  for (;;) __asm__ volatile("");
  pthread_cleanup_pop(0);
  return NULL;
}

__attribute__((noinline)) static void block(int depth) {
  pthread_cleanup_push(clean, (void*)10L);
  if (depth > 0) {
    block(depth - 1);
  } else {
    sem_post(&started);
    pause();
  }
  pthread_cleanup_pop(0);
}

static void* blocked(void* unused) {
  (void)unused;
  EXPECT(pthread_setspecific(key, &key) == 0);
  block(5);
  return NULL;
}

static void* tested(void* unused) {
  (void)unused;
  pthread_cleanup_push(clean, (void*)1000L);
  sem_post(&started);
  for (;;) pthread_testcancel();
  pthread_cleanup_pop(0);
  return NULL;
}

static void* count(void* argument) {
  pthread_once(&once, initialize);
  for (int i = 0; i < 10000; ++i) {
    counter += i;
    buffer[i % sizeof(buffer)] = (char)(buffer[i % sizeof(buffer)] + (char)(long)argument);
  }
  EXPECT(buffer[4999] == (char)(2 * (long)argument));
  return (void*)counter;
}

static void cancel(void* (*function)(void*), const char* what) {
  for (int i = 0; i < 20; ++i) {
    pthread_t thread;
    void* result;
    EXPECT(pthread_create(&thread, NULL, function, NULL) == 0);
    while (sem_wait(&started) != 0) {
    }
    EXPECT(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
    EXPECT(result == PTHREAD_CANCELED);
  }
  printf("%s: cleaned %d, destroyed %d\n", what, cleaned, destroyed);
}

int main(void) {
  EXPECT(pthread_key_create(&key, destroy) == 0 && sem_init(&started, 0, 0) == 0);
  cancel(spin, "asynchronously");
  cancel(blocked, "in a system call");
  cancel(tested, "at a cancellation point");
  pthread_t threads[8];
  for (long i = 0; i < 8; ++i) EXPECT(pthread_create(&threads[i], NULL, count, (void*)i) == 0);
  for (int i = 0; i < 8; ++i) {
    void* result;
    EXPECT(pthread_join(threads[i], &result) == 0);
    EXPECT((long)result == 100 + 10000L * 9999 / 2);
  }
  printf("thread-local: ok, initialized %d, here %ld\n", initialized, counter);
  return 0;
}
