// backtrace() of glibc: the names of the frames, from deep calls, from callbacks, and through a signal handler's frame.
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>

#include "../expect.h"

static void print_frames(const char* title) {
  void* frames[64];
  const int count = backtrace(frames, 64);
  printf("%s:", title);
  for (int i = 0; i < count; ++i) {
    // The caller's name: one byte before the return address, as a debugger looks it up. Frames of libc depend on its version.
    Dl_info info;
    if (dladdr((char*)frames[i] - 1, &info) == 0 || info.dli_sname == NULL) continue;
    if (strstr(info.dli_fname, "backtraces") == NULL) continue;
    printf(" %s+%lx", info.dli_sname, (unsigned long)((char*)frames[i] - (char*)info.dli_saddr));
    if (strcmp(info.dli_sname, "main") == 0) break;
  }
  printf("\n");
}

#define FRAME __attribute__((noinline, noclone, optimize("no-optimize-sibling-calls")))
FRAME void third(const char* title);
FRAME void second(const char* title, int depth);
FRAME int comparison(const void* a, const void* b);
FRAME void on_signal(int signal);
FRAME void faulting(volatile int* at);

void third(const char* title) {
  print_frames(title);
  __asm__ volatile("");
}

void second(const char* title, int depth) {
  if (depth > 0) {
    second(title, depth - 1);
  } else {
    third(title);
  }
  __asm__ volatile("");
}

static int once;

int comparison(const void* a, const void* b) {
  if (!once++) third("from qsort");
  return *(const char*)a - *(const char*)b;
}

void on_signal(int signal) {
  third(signal == SIGSEGV ? "from a fault" : "from a signal");
  // The faulting code must not run again.
  static const char text[] = "end\n";
  if (signal == SIGSEGV) {
    fputs(text, stdout);
    fflush(stdout);
    _Exit(0);
  }
}

void faulting(volatile int* at) {
  __asm__ volatile("nop");  // so that the name is that of the byte before, too
  *at = 5;
  __asm__ volatile("");
}

int main(void) {
  second("deep", 10);
  char letters[] = "dune";
  qsort(letters, 4, 1, comparison);
  printf("%s\n", letters);
  EXPECT(signal(SIGUSR1, on_signal) != SIG_ERR && signal(SIGSEGV, on_signal) != SIG_ERR);
  raise(SIGUSR1);
  void (*volatile pointer)(const char*) = third;
  pointer("by a pointer");
  faulting((volatile int*)8);
  return 1;
}
