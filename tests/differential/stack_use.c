// Recursion to near the stack's limit works, past it is a SIGSEGV that a handler on another stack can take. With an argument:
// dies of it.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>

#include "expect.h"

static char* top;
static char alternate[65536];
static sigjmp_buf escape;
static volatile uintptr_t fault;

__attribute__((noinline)) static uint64_t descend(uint64_t limit) {
  volatile char frame[4000];
  memset((void*)frame, 7, sizeof(frame));
  if ((uint64_t)(top - (char*)frame) >= limit) return 1;
  return 1 + descend(limit) + (uint64_t)(frame[17] - 7);
}

static void on_fault(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  printf("SIGSEGV, code %d\n", info->si_code);
  fault = (uintptr_t)info->si_addr;
  siglongjmp(escape, 1);
}

int main(int argc, char** argv) {
  (void)argv;
  top = __builtin_frame_address(0);
  struct rlimit limit;
  EXPECT(getrlimit(RLIMIT_STACK, &limit) == 0);
  if (limit.rlim_cur > (64u << 20)) SKIP("the stack limit is above 64 MiB");
  EXPECT(descend(limit.rlim_cur - (300u << 10)) > limit.rlim_cur / 8000);
  printf("near the limit of %lu KiB\n", (unsigned long)limit.rlim_cur >> 10);
  fflush(stdout);
  if (argc > 1) return (int)descend(UINT64_MAX);

  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
  EXPECT(sigaltstack(&stack, NULL) == 0);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  EXPECT(sigaction(SIGSEGV, &action, NULL) == 0);
  for (int i = 0; i < 3; ++i) {
    if (sigsetjmp(escape, 1) == 0) descend(UINT64_MAX);
    const uint64_t depth = (uint64_t)top - fault;
    EXPECT(depth > limit.rlim_cur - (400u << 10) && depth < limit.rlim_cur + (400u << 10));
  }
  // What was below is usable again, and is not lost.
  EXPECT(descend(1u << 20) > 100);
  printf("end\n");
  return 0;
}
