// Under isolation pku: goes for the runtime's memory, and for PKRU. Standard input is what the lab
// has found out about the runtime's mappings, one a line: start and end (hexadecimal), protection
// key. A guest would have to guess.
#define _GNU_SOURCE
#include <cpuid.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "contain.h"

enum { kGuestKey = 1, kTablesKey = 2, kPkruComponent = 1 << 9, kAreaSize = 4096 };

static int attempt_read(volatile char* address) {
  if (sigsetjmp(contain_return, 1) != 0) return 0;
  (void)*address;
  return 1;
}

static int attempt_write(volatile char* address) {
  if (sigsetjmp(contain_return, 1) != 0) return 0;
  // Not another value: where this succeeds, the rest should still run.
  __asm__ volatile("lock orb $0, %0" : "+m"(*address));
  return 1;
}

// The kernel as a deputy.
static int attempt_call(void* address) {
  int pipes[2];
  if (pipe(pipes) != 0) return 0;
  const int leaked = write(pipes[1], address, 1) == 1;
  if (!leaked) write(pipes[1], "x", 1);
  const int damaged = read(pipes[0], address, 1) == 1;
  close(pipes[0]);
  close(pipes[1]);
  return leaked || damaged;
}

static void go_for_mappings(void) {
  unsigned long start, end;
  int key, closed = 0, tables = 0, own = 0;
  while (scanf("%lx-%lx %d", &start, &end, &key) == 3) {
    if (start < 0x400000000000) {
      contain_check(key == kGuestKey, "guest memory has the guest's key", (long)start);
      continue;
    }
    unsigned long places[] = {start, (start + end) / 2 & ~63UL, end - 64};
    for (int i = 0; i < 3; ++i) {
      char* place = (char*)places[i];
      contain_check(!attempt_call(place), "a call on the runtime's memory", (long)place);
      if (key == kGuestKey) {
        ++own;
        continue;
      }
      contain_check(!attempt_write(place), "a write of the runtime's memory", (long)place);
      if (key == kTablesKey) {
        ++tables;
        continue;
      }
      ++closed;
      contain_check(!attempt_read(place), "a read of the runtime's memory", (long)place);
    }
  }
  printf("closed %d, read-only %d, spill pages %d\n", closed > 0, tables > 0, own > 0);
}

// PKRU as if everything were open, wherever an XRSTOR might look for it.
static char area[kAreaSize] __attribute__((aligned(64)));

static void prepare_area(void) {
  memset(area, 0, sizeof(area));
  area[512] = (char)(kPkruComponent & 0xff);
  *(unsigned long*)(area + 512) = kPkruComponent;
  area[24] = (char)0x80, area[25] = 0x1f;
}

static void go_for_pkru(char* runtime) {
  const unsigned masks[] = {kPkruComponent, kPkruComponent | 7, ~0U};
  for (int i = 0; i < 3; ++i) {
    prepare_area();
    if (sigsetjmp(contain_return, 1) == 0) {
      __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"(masks[i]), "d"(0) : "memory");
    }
    contain_check(!attempt_read(runtime), "XRSTOR of PKRU", masks[i]);
    memset(area, 0, sizeof(area));
    if (sigsetjmp(contain_return, 1) == 0) {
      __asm__ volatile("xsave64 (%0)" ::"r"(area), "a"(masks[i]), "d"(0) : "memory");
    }
    contain_check((*(unsigned long*)(area + 512) & kPkruComponent) == 0, "XSAVE of PKRU", masks[i]);
  }
  if (sigsetjmp(contain_return, 1) == 0) {
    __asm__ volatile("wrpkru" ::"a"(0), "c"(0), "d"(0) : "memory");
    contain_check(0, "WRPKRU is executed", 0);
  }
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  contain_check((low & kPkruComponent) == 0, "XGETBV shows PKRU", low);
}

// A signal frame whose vector state claims to hold PKRU.
static void on_forged(int signal_number, siginfo_t* info, void* raw) {
  ucontext_t* context = raw;
  char* state = (char*)context->uc_mcontext.fpregs;
  *(unsigned long*)(state + 512) |= kPkruComponent;
  *(unsigned long*)(state + 464 + 8) |= kPkruComponent;  // xfeatures of the software's bytes
}

static void go_for_frames(char* runtime) {
  struct sigaction action = {.sa_sigaction = on_forged, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  if (sigsetjmp(contain_return, 1) == 0) raise(SIGUSR1);
  contain_check(!attempt_read(runtime), "a signal frame with PKRU", 0);
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  contain_install();
  puts("ready");
  unsigned long runtime;
  if (scanf("%lx", &runtime) != 1) return 2;
  go_for_pkru((char*)runtime);
  go_for_frames((char*)runtime);
  go_for_mappings();
  contain_alive("still alive");
  return contain_verdict("hostile_keys");
}
