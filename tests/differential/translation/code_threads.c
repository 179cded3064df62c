// Code that one thread writes and another runs.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "code.h"

static unsigned char* page;
static unsigned char* view;  // a second, writable view of the same memory
static atomic_long turn;
static atomic_bool stop;
static long writer_sum;

static void wait_for(long value) {
  while (atomic_load(&turn) != value) sched_yield();
}

// ---- By turns: the writer writes, the runner runs what was written -----------------------------------------------------------
enum { kTurns = 1000 };

static void* write_by_turns(void* where) {
  for (long i = 0; i < kTurns; ++i) {
    wait_for(2 * i);
    if (i % 10 == 9) {
      put_constant(where, i);
    } else {
      put_linear(where, (int)i, (int)i * 3);
    }
    atomic_store(&turn, 2 * i + 1);
  }
  return NULL;
}

static void by_turns(const char* what, unsigned char* where) {
  pthread_t writer;
  long sum = 0;
  atomic_store(&turn, 0);
  EXPECT(pthread_create(&writer, NULL, write_by_turns, where) == 0);
  for (long i = 0; i < kTurns; ++i) {
    wait_for(2 * i + 1);
    sum = sum * 3 + call_code(page, i);
    atomic_store(&turn, 2 * i + 2);
  }
  EXPECT(pthread_join(writer, NULL) == 0);
  printf("by turns, %s: %lx\n", what, sum);
}

// ---- While it runs: a loop that only sees its code change ---------------------------------------------------------------------
// f: movabs $n, %rax; ret, with the immediate at an aligned address: the runner calls it until n is the last.
enum { kVersions = 300 };

static void* patch_running(void* where) {
  _Atomic long* immediate = (_Atomic long*)((unsigned char*)where + 8);
  for (long i = 1; i <= kVersions; ++i) {
    atomic_store(immediate, i);
    // Until the runner has seen it: a version may not stay away for ever.
    wait_for(i);
  }
  return NULL;
}

static void patched_while_running(const char* what, unsigned char* where) {
  pthread_t writer;
  put_constant(page + 6, 0);  // the immediate at 8
  atomic_store(&turn, 0);
  EXPECT(pthread_create(&writer, NULL, patch_running, where) == 0);
  long last = 0, changes = 0;
  while (last < kVersions) {
    const long now = call_code(page + 6, 0);
    EXPECT(now == last || now == last + 1);
    changes += now != last;
    last = now;
    atomic_store(&turn, now);
  }
  EXPECT(pthread_join(writer, NULL) == 0);
  printf("patched while it runs, %s: %ld changes\n", what, changes);
}

// The runner never leaves the code: it loops in it until the store below turns the loop's jump (at an address that is a multiple
// of 8) into another.
CODE(endless,
     "  mov $1, %eax\n  jmp 1f\n  .balign 8\n"
     "1: .byte 0xeb, 0xfe, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90\n"  // jmp to itself
     "  lea 41(%rax), %rax\n  ret");
CODE(endless_with_work,
     "  mov $1, %eax\n  mov $1, %ecx\n  jmp 1f\n  .balign 8\n"
     "1: .byte 0x48, 0x8d, 0x0c, 0x09, 0xeb, 0xfa, 0x90, 0x90\n"  // lea (%rcx, %rcx), %rcx; jmp back
     "  lea 41(%rax), %rax\n  ret");
CODE(endless_calls,
     "  mov $1, %eax\n  jmp 1f\n  .balign 8\n"
     "1: .byte 0xe8, 0x0b, 0, 0, 0, 0xeb, 0xf9, 0x90\n"  // call to the ret below; jmp back
     "  lea 41(%rax), %rax\n  ret\n  nop\n  nop\n  nop\n  ret\n  ret\n  ret\n  ret\n  ret\n  ret\n  ret\n  ret");

static void* end_loop(void* where) {
  wait_for(1);
  usleep(3000);
  // mov %eax, %eax and nops: the loop falls out of its end.
  const uint64_t out = 0x909090909090c089;
  atomic_store((_Atomic uint64_t*)where, out);
  return NULL;
}

#define END_LOOP(name, offset, at)                                          \
  do {                                                                      \
    for (int i = 0; i < 10; ++i) {                                          \
      COPY_CODE(page, name);                                                \
      pthread_t writer;                                                     \
      atomic_store(&turn, 0);                                               \
      EXPECT(pthread_create(&writer, NULL, end_loop, (at) + (offset)) == 0); \
      atomic_store(&turn, 1);                                               \
      EXPECT(call_code(page, 0) == 42);                                     \
      EXPECT(pthread_join(writer, NULL) == 0);                              \
    }                                                                       \
    printf(#name ", ended by a store to %s\n", (at) == page ? "it" : "another view of it"); \
    fflush(stdout);                                                         \
  } while (0)

// ---- Each thread makes code of its own, on a page they share ------------------------------------------------------------------
enum { kMakers = 4 };

static void* make_own(void* argument) {
  const long number = (long)argument;
  long sum = 0;
  for (int i = 0; i < 2000; ++i) {
    put_linear(page + 64 * number, i, (int)number);
    sum = sum * 3 + call_code(page + 64 * number, i);
  }
  return (void*)sum;
}

static void makers(void) {
  pthread_t threads[kMakers];
  for (long i = 0; i < kMakers; ++i) EXPECT(pthread_create(&threads[i], NULL, make_own, (void*)i) == 0);
  for (int i = 0; i < kMakers; ++i) {
    void* sum;
    EXPECT(pthread_join(threads[i], &sum) == 0);
    printf("maker %d: %lx\n", i, (long)sum);
  }
}

// ---- One thread unmaps and maps code while others run other code of the same region ---------------------------------------------
static void* run_constant(void* argument) {
  const unsigned char* at = argument;
  long runs = 0;
  while (!atomic_load(&stop)) {
    EXPECT(call_code(at, runs) == runs * 5 + 7);
    ++runs;
  }
  return NULL;
}

static void neighbours(void) {
  unsigned char* region = map_code(16 * 4096, kRwx);
  pthread_t threads[2];
  atomic_store(&stop, 0);
  for (int i = 0; i < 2; ++i) {
    put_linear(region + i * 4096, 5, 7);
    EXPECT(pthread_create(&threads[i], NULL, run_constant, region + i * 4096) == 0);
  }
  for (int i = 0; i < 300; ++i) {
    unsigned char* at = region + (2 + i % 14) * 4096;
    put_constant(at, i);
    writer_sum = writer_sum * 3 + call_code(at, 0);
    EXPECT(munmap(at, 4096) == 0);
    EXPECT(mmap(at, 4096, kRwx, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
    EXPECT(at[0] == 0);
    region[4096 + 2048 + i] = (unsigned char)i;  // beside code that runs
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < 2; ++i) EXPECT(pthread_join(threads[i], NULL) == 0);
  printf("neighbours: %lx\n", writer_sum);
}

int main(void) {
  const int fd = memfd_create("code", 0);
  EXPECT(fd >= 0 && ftruncate(fd, 8192) == 0);
  page = mmap(NULL, 8192, kRwx, MAP_SHARED, fd, 0);
  view = mmap(NULL, 8192, kRw, MAP_SHARED, fd, 0);
  EXPECT(page != MAP_FAILED && view != MAP_FAILED);
  by_turns("the same page", page);
  by_turns("another view", view);
  patched_while_running("the same page", page);
  patched_while_running("another view", view);
  END_LOOP(endless, 8, page);
  END_LOOP(endless, 8, view);
  END_LOOP(endless_with_work, 16, page);
  END_LOOP(endless_with_work, 16, view);
  END_LOOP(endless_calls, 8, page);
  END_LOOP(endless_calls, 8, view);
  makers();
  neighbours();
  return 0;
}
