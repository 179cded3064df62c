// Handlers that do a lot: printf, qsort, vector code of the C library, calls through pointers, allocation, nested signals; into
// code that does the like.
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>

#include "../expect.h"

static volatile sig_atomic_t handled, depth, deepest;
static char from[4096], to[4096], text[8192];
static uint64_t handler_hash;

static int compare(const void* a, const void* b) { return *(const int*)a - *(const int*)b; }

static uint64_t work(unsigned seed, char* out, size_t size) {
  int numbers[100];
  for (int i = 0; i < 100; ++i) numbers[i] = (int)((seed * 7919u + (unsigned)i * 104729u) % 10007);
  qsort(numbers, 100, sizeof(int), compare);
  char source[600], target[600];
  memset(source, (int)(seed % 255) + 1, sizeof(source));
  source[599] = 0;
  memcpy(target, source, sizeof(target));
  memmove(target + 7, target, 500);
  const int written = snprintf(out, size, "%d %s %.15g %Lg %08x %zu %s", numbers[50], "text", sqrt(seed) * sin(seed), (long double)seed / 3,
                               numbers[3], strlen(target), strchr(source, 0) == source + 599 ? "found" : "lost");
  uint64_t hash = 14695981039346656037u;
  for (int i = 0; i < written; ++i) hash = (hash ^ (unsigned char)out[i]) * 1099511628211u;
  return hash ^ (uint64_t)memcmp(source, target, 600) << 32;
}

static void on_signal(int signal) {
  char own[300];
  ++depth;
  if (depth > deepest) deepest = depth;
  const uint64_t hash = work(17, own, sizeof(own));
  if (handler_hash == 0) handler_hash = hash;
  EXPECT(hash == handler_hash);
  memset(to, handled & 127, sizeof(to));
  memcpy(from, to, sizeof(from));
  if (signal == SIGUSR1 && depth < 8) raise(SIGUSR1);
  --depth;
  ++handled;
}

int main(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_NODEFER};
  EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
  uint64_t expected[50];
  for (unsigned i = 0; i < 50; ++i) expected[i] = work(i, text, sizeof(text));
  for (int i = 0; i < 50; ++i) raise(SIGUSR1);
  printf("nested: %d handled, deepest %d\n", handled, deepest);
  // snprintf into an array and qsort of 100 numbers neither allocate nor lock, so they may be interrupted by themselves.
  action.sa_flags = SA_RESTART;
  EXPECT(sigaction(SIGALRM, &action, NULL) == 0);
  const struct itimerval every = {{0, 700}, {0, 700}};
  handled = 0;
  EXPECT(setitimer(ITIMER_REAL, &every, NULL) == 0);
  while (handled < 500) {
    for (unsigned i = 0; i < 50; ++i) EXPECT(work(i, text, sizeof(text)) == expected[i]);
  }
  const struct itimerval never = {{0, 0}, {0, 0}};
  EXPECT(setitimer(ITIMER_REAL, &never, NULL) == 0);
  printf("by the timer: every sum holds\n");
  printf("%s, %lx\n", text, handler_hash);
  return 0;
}
