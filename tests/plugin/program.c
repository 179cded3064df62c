// An ordinary program, linked statically, whose functions are called while its main never runs. It does not know
// where it runs.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static int constructed, main_was_called;
static volatile int* volatile nowhere = (volatile int*)8;
static __thread int of_this_thread = 41;

__attribute__((constructor)) static void construct(void) { constructed = 42; }

int was_constructed(void) { return constructed; }
int was_main_called(void) { return main_was_called; }
int add(int a, int b) { return a + b; }
double scale(double value, int by) { return value * by; }
unsigned long length(const char* text) { return strlen(text); }
const char* greeting(int number) {
  static char text[64];
  snprintf(text, sizeof(text), "good day %d", number);
  return text;
}
int next_of_thread(void) { return ++of_this_thread; }
int call_back(int (*function)(int), int value) { return function(value) + 1; }
void say(const char* text) {
  puts(text);
  fflush(stdout);
}
void crash(void) { *nowhere = 1; }
void spin(void) {
  for (volatile int i = 0;; ++i) {
  }
}
void leave(int status) { exit(status); }
char* twice(const char* text) {
  const size_t size = strlen(text);
  char* const result = malloc(2 * size + 1);
  if (result == NULL) return NULL;
  memcpy(result, text, size);
  memcpy(result + size, text, size + 1);
  return result;
}
int large_block(unsigned long bytes) {
  char* const block = malloc(bytes);
  if (block == NULL) return errno;
  memset(block, 1, bytes);
  free(block);
  return 0;
}
const char* variable(const char* name) { return getenv(name); }
const char* own_name(void) { return (const char*)getauxval(AT_EXECFN); }
int own_id(void) { return gettid() == getpid(); }

static volatile sig_atomic_t handled;
static void on_signal(int signal) { handled = signal; }
int handle_own_signals(void) {
  signal(SIGUSR1, on_signal);
  raise(SIGUSR1);
  return handled == SIGUSR1;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int counted;
static void* count_up(void* times) {
  for (intptr_t i = 0; i < (intptr_t)times; ++i) {
    pthread_mutex_lock(&mutex);
    ++counted;
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}
int run_threads(int number, int times) {
  pthread_t threads[16];
  counted = 0;
  for (int i = 0; i < number; ++i) {
    if (pthread_create(&threads[i], NULL, count_up, (void*)(intptr_t)times) != 0) return -1;
  }
  for (int i = 0; i < number; ++i) pthread_join(threads[i], NULL);
  return counted;
}

#ifdef LARGE
char of_no_use[LARGE];  // more than a sandbox may have
#endif

int main(int argc, char** argv) {
  (void)argv;
  main_was_called = 1;
  return argc + 10;
}
