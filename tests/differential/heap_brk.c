// The program break up and down; memory below it is zero when fresh and gone when given back.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "expect.h"

static sigjmp_buf escape;
static void on_fault(int signal) {
  (void)signal;
  siglongjmp(escape, 1);
}

static int readable(volatile char* address) {
  if (sigsetjmp(escape, 1) != 0) return 0;
  (void)*address;
  return 1;
}

// Not sbrk(): libc keeps its own idea of the break.
static char* set_break(char* address) { return (char*)syscall(SYS_brk, address); }

int main(void) {
  EXPECT(signal(SIGSEGV, on_fault) != SIG_ERR);
  void* block = malloc(100);
  EXPECT(block != NULL);
  char* start = set_break(NULL);
  char* page = (char*)(((uintptr_t)start + 4095) & ~(uintptr_t)4095);
  EXPECT(set_break(page) == page);
  for (int round = 0; round < 5; ++round) {
    EXPECT(set_break(page + (1 << 20)) == page + (1 << 20));
    for (int i = 0; i < 1 << 20; i += 512) {
      EXPECT(page[i] == 0);
      page[i] = (char)i | 1;
    }
    EXPECT(set_break(page + 5000) == page + 5000);
    EXPECT(readable(page + 8191) && !readable(page + 8192));
    EXPECT(page[0] == 1);
    EXPECT(set_break(page) == page && !readable(page));
  }
  printf("up and down\n");
  // What cannot be leaves the break where it is.
  EXPECT(set_break((char*)1) == page);
  EXPECT(set_break((char*)0xffffffffffffffff) == page);
  EXPECT(set_break((char*)0x7fffffffffff) == page);
  EXPECT(set_break((char*)0xffff800000000000) == page);
  char* obstacle = mmap(page + (1 << 20), 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  EXPECT(obstacle == page + (1 << 20));
  EXPECT(set_break(page + (2 << 20)) == page);
  EXPECT(munmap(obstacle, 4096) == 0);
  EXPECT(set_break(page + (2 << 20)) == page + (2 << 20));
  EXPECT(set_break(page) == page);
  printf("refusals\n");
  struct rlimit small = {1 << 20, RLIM_INFINITY}, old;
  EXPECT(getrlimit(RLIMIT_DATA, &old) == 0);
  small.rlim_max = old.rlim_max;
  EXPECT(setrlimit(RLIMIT_DATA, &small) == 0);
  EXPECT(set_break(page + (64 << 20)) == page);
  EXPECT(setrlimit(RLIMIT_DATA, &old) == 0);
  EXPECT(set_break(page + (64 << 20)) == page + (64 << 20));
  printf("RLIMIT_DATA\n");
  EXPECT(set_break(start) == start || set_break(page) == page);
  // malloc over all sizes on top of it.
  uint64_t sum = 0;
  for (int i = 0; i < 2000; ++i) {
    unsigned char* piece = calloc(1, (size_t)(i * 37 + 1));
    EXPECT(piece != NULL);
    piece[i * 37] = (unsigned char)i;
    sum += piece[0] + piece[i * 37];
    free(piece);
  }
  free(block);
  printf("sum %lu\n", (unsigned long)sum);
  return 0;
}
