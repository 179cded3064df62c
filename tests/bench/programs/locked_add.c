// Four threads, each adds AMOUNT million times to one shared counter with a locked XADD.
#include <pthread.h>
#include <stdint.h>

#include "arguments.h"

enum { kThreads = 4 };

static uint64_t counter;

static void* add(void* argument) {
  uint64_t odd = 0;
  for (long left = *(const long*)argument; left > 0; --left) {
    odd += __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST) & 1;
  }
  return (void*)(uintptr_t)odd;
}

int main(int argc, char** argv) {
  long amount = 1000000 * amount_of_work(argc, argv);
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    if (pthread_create(&threads[i], NULL, add, &amount) != 0) return 1;
  }
  uint64_t odd = 0;
  for (int i = 0; i < kThreads; ++i) {
    void* result;
    if (pthread_join(threads[i], &result) != 0) return 1;
    odd += (uintptr_t)result;
  }
  printf("%lu, %lu of them odd\n", counter, odd);
  return 0;
}
