// AMOUNT thousand threads that do nothing, one after the other: created and joined.
#include <pthread.h>
#include <stdint.h>

#include "arguments.h"

static void* add_one(void* argument) { return (void*)((uintptr_t)argument + 1); }

int main(int argc, char** argv) {
  const long amount = 1000 * amount_of_work(argc, argv);
  void* sum = NULL;
  for (long i = 0; i < amount; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, add_one, sum) != 0 || pthread_join(thread, &sum) != 0) return 1;
  }
  printf("%lu\n", (unsigned long)(uintptr_t)sum);
  return 0;
}
