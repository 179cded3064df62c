// Crashes in the way that its argument names, each time behind calls that a back-trace has to find again.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NOT_INLINED __attribute__((noinline, noclone))

static volatile int* volatile nowhere;
static void (*volatile no_function)(void);
static volatile int depth;

NOT_INLINED int innermost(void) { return *nowhere + 1; }
NOT_INLINED int calls_innermost(int number) {
  volatile char room[300];
  room[number % 300] = 1;
  return innermost() + room[0];
}

NOT_INLINED int calls_nothing(void) {
  no_function();
  return depth;
}

NOT_INLINED void on_signal(int number) { depth = calls_innermost(number); }
NOT_INLINED int is_interrupted(void) {
  raise(SIGUSR1);
  return depth;
}
static int in_handler(int flags) {
  static char stack[1 << 16];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
  sigaction(SIGUSR1, &action, NULL);
  return is_interrupted() + 1;
}

NOT_INLINED int compares(const void* left, const void* right) {
  return calls_innermost(*(const char*)left - *(const char*)right);
}
NOT_INLINED int sorts(void) {
  char letters[] = "dcba";
  qsort(letters, 4, 1, compares);
  return letters[0];
}

NOT_INLINED int gives_up(void) {
  if (depth == 0) abort();
  return depth;
}

NOT_INLINED void* in_thread(void* argument) {
  depth = calls_innermost(1);
  return argument;
}
NOT_INLINED int starts_thread(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, in_thread, NULL);
  pthread_join(thread, NULL);
  return depth;
}

NOT_INLINED int recurses(int number) {
  volatile char room[1000];
  room[number % 1000] = 1;
  depth = recurses(number + 1);
  return depth + room[number % 1000];
}

int main(int argc, char** argv) {
  const char* const way = argc > 1 ? argv[1] : "";
  if (strcmp(way, "null") == 0) return calls_innermost(argc) + 1;
  if (strcmp(way, "jump") == 0) return calls_nothing() + 1;
  if (strcmp(way, "handler") == 0) return in_handler(0) + 1;
  if (strcmp(way, "stack") == 0) return in_handler(SA_ONSTACK) + 1;
  if (strcmp(way, "sort") == 0) return sorts() + 1;
  if (strcmp(way, "abort") == 0) return gives_up() + 1;
  if (strcmp(way, "thread") == 0) return starts_thread() + 1;
  if (strcmp(way, "recursion") == 0) return recurses(1) + 1;
  return 0;
}
