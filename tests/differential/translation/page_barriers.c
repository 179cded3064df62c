// What collectors and loaders do by page faults: write barriers, pages of code made executable or writable when they are first used,
// guard pages, a stack that overflows; every handler repairs and returns, or jumps out, on an alternate stack.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#include "code.h"

enum { kPages = 200, kPage = 4096 };

static unsigned char *data, *code;
static volatile long faults;
static volatile int executed_faults, last_code;
static sigjmp_buf escape;
static char alternate[65536];
static uintptr_t overflow_at;

static void on_fault(int signal, siginfo_t* info, void* opaque) {
  (void)signal;
  const greg_t* registers = ((ucontext_t*)opaque)->uc_mcontext.gregs;
  unsigned char* at = info->si_addr;
  unsigned char* page = (unsigned char*)((uintptr_t)at & ~(uintptr_t)(kPage - 1));
  ++faults;
  last_code = info->si_code;
  char here;
  EXPECT(&here > alternate && &here < alternate + sizeof(alternate));
  if (at >= data && at < data + kPages * kPage) {
    EXPECT(mprotect(page, kPage, kRw) == 0);
    return;
  }
  if (at >= code && at < code + kPages * kPage) {
    if ((uintptr_t)registers[REG_RIP] == (uintptr_t)at) {
      ++executed_faults;
      EXPECT(mprotect(page, kPage, kRx) == 0);
    } else {
      EXPECT(mprotect(page, kPage, kRw) == 0);
    }
    return;
  }
  overflow_at = (uintptr_t)at;
  siglongjmp(escape, 1);
}

static void write_barriers(void) {
  long sum = 0;
  for (int round = 0; round < 5; ++round) {
    EXPECT(mprotect(data, kPages * kPage, PROT_READ) == 0);
    // Every kind of store, with neighbours that must happen once.
    for (int i = 0; i < kPages; ++i) {
      long* words = (long*)(data + i * kPage);
      switch (i % 5) {
        case 0:
          words[7] += i;
          break;
        case 1:
          __atomic_fetch_add(&words[7], i, __ATOMIC_SEQ_CST);
          break;
        case 2:
          memset(data + i * kPage - 100, round + 1, 200);
          break;
        case 3:
          words[7] = words[7] * 3 + 1, words[8] = words[7];
          break;
        default:
          memmove(data + i * kPage + 40, data + (i - 1) * kPage + 40, 300);
          break;
      }
    }
  }
  for (int i = 0; i < kPages * kPage; ++i) sum = sum * 31 + data[i];
  printf("write barriers: %lx, %ld faults\n", sum, faults);
}

// Each page of code is written and run for the first time by a fault, over and over: W^X by a handler.
static void lazy_code(void) {
  long sum = 0;
  faults = 0;
  EXPECT(mprotect(code, kPages * kPage, PROT_NONE) == 0);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < kPages; ++i) {
      put_linear(code + i * kPage + 8, i, round);
      sum = sum * 3 + call_code(code + i * kPage + 8, i);
    }
  }
  // A store into code that just ran, which the program has protected itself.
  for (int i = 0; i < 500; ++i) {
    code[8 + 9] = (unsigned char)i;
    sum = sum * 3 + call_code(code + 8, i);
  }
  printf("lazy code: %lx, %ld faults, %d by execution\n", sum, faults, executed_faults);
}

static volatile long depth;

static int descend(int level);
static int (*volatile next_level)(int) = descend;

static int descend(int level) {
  volatile char frame[512];
  frame[0] = (char)level;
  ++depth;
  return next_level(level + 1) + frame[0];
}

static void overflows(void) {
  for (volatile int i = 0; i < 5; i = i + 1) {
    depth = 0;
    if (sigsetjmp(escape, 1) == 0) descend(0);
    EXPECT(depth > 1000);
    const uintptr_t here = (uintptr_t)&here;
    EXPECT(overflow_at < here && here - overflow_at < (64 << 20));
  }
  printf("stack overflows: jumped out of 5\n");
}

// A polling page: the loop is stopped by taking away the page that it reads.
static void safepoint(void) {
  const volatile int* poll = (const volatile int*)(data + kPage);
  long sum = 0;
  faults = 0;
  for (int i = 0; i < 20000; ++i) {
    if (i % 100 == 99) EXPECT(mprotect(data + kPage, kPage, PROT_NONE) == 0);
    sum = sum * 3 + (*poll == 12345) + i;
  }
  printf("safe points: %lx, %ld faults\n", sum, faults);
}

int main(void) {
  const stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
  EXPECT(sigaltstack(&stack, NULL) == 0);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  EXPECT(sigaction(SIGSEGV, &action, NULL) == 0);
  data = map_code(kPages * kPage, kRw);
  code = map_code(kPages * kPage, kRw);
  write_barriers();
  lazy_code();
  overflows();
  safepoint();
  return 0;
}
