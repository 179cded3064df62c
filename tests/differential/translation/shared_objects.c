// dlopen, dlsym and dlclose in a loop of two libraries of the same layout, which come to lie at the same address in turn.
//
//   shared_objects FIRST_LIBRARY SECOND_LIBRARY
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>

#include "../expect.h"

typedef long (*entry)(long);

static const char* libraries[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long run(int i, uintptr_t* address) {
  void* library = dlopen(libraries[i % 2], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) printf("%s\n", dlerror());
  EXPECT(library != NULL);
  const entry plugin = (entry)(uintptr_t)dlsym(library, "plugin");
  EXPECT(plugin != NULL);
  if (address != NULL) *address = (uintptr_t)plugin;
  const long result = plugin(i) + plugin(i + 1);
  EXPECT(dlclose(library) == 0);
  return result;
}

static void* in_thread(void* argument) {
  long sum = 0;
  for (int i = 0; i < 30; ++i) {
    EXPECT(pthread_mutex_lock(&lock) == 0);
    sum = sum * 3 + run(i + (int)(long)argument, NULL);
    EXPECT(pthread_mutex_unlock(&lock) == 0);
  }
  return (void*)sum;
}

int main(int argc, char** argv) {
  EXPECT(argc == 3);
  libraries[0] = argv[1];
  libraries[1] = argv[2];
  long sum = 0;
  int reused = 0;
  uintptr_t last = 0;
  for (int i = 0; i < 200; ++i) {
    uintptr_t address;
    sum = sum * 3 + run(i, &address);
    reused += address >> 12 == last >> 12;
    last = address;
  }
  printf("sum %lx, the address was used again: %d\n", sum, reused > 100);
  pthread_t threads[3];
  for (long i = 0; i < 3; ++i) EXPECT(pthread_create(&threads[i], NULL, in_thread, (void*)i) == 0);
  for (int i = 0; i < 3; ++i) {
    void* result;
    EXPECT(pthread_join(threads[i], &result) == 0);
    printf("thread %d: %lx\n", i, (long)result);
  }
  return 0;
}
