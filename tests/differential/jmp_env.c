// setjmp and longjmp, out of deep calls and out of handlers, with the signal mask kept or restored.
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include "expect.h"

static jmp_buf plain;
static sigjmp_buf with_mask;
static ucontext_t main_context, other_context;

__attribute__((noinline)) static int deep(int level) {
  volatile int local = level;
  if (level == 0) longjmp(plain, 42);
  return level > 0 ? deep(level - 1) + local : local;
}

static void on_signal(int signal) {
  (void)signal;
  siglongjmp(with_mask, 7);
}

static int blocked(int signal) {
  sigset_t now;
  EXPECT(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
  return sigismember(&now, signal);
}

static void other(int argument) {
  printf("in the other context with %d\n", argument);
  EXPECT(swapcontext(&other_context, &main_context) == 0);
  printf("in the other context again\n");
}

int main(void) {
  volatile double kept = 1.25;
  for (volatile int i = 0; i < 3; i = i + 1) {
    const int value = setjmp(plain);
    if (value == 0) deep(200 * (i + 1));
    printf("longjmp gave %d, %.2f\n", value, kept);
    kept = kept * 2;
  }
  EXPECT(signal(SIGUSR1, on_signal) != SIG_ERR);
  for (volatile int i = 0; i < 3; i = i + 1) {
    if (sigsetjmp(with_mask, 1) == 0) raise(SIGUSR1);
    printf("with the mask: blocked %d\n", blocked(SIGUSR1));
  }
  if (sigsetjmp(with_mask, 0) == 0) raise(SIGUSR1);
  printf("without the mask: blocked %d\n", blocked(SIGUSR1));

  static char stack[65536];
  EXPECT(getcontext(&other_context) == 0);
  other_context.uc_stack.ss_sp = stack;
  other_context.uc_stack.ss_size = sizeof(stack);
  other_context.uc_link = &main_context;
  makecontext(&other_context, (void (*)(void))other, 1, 5);
  EXPECT(swapcontext(&main_context, &other_context) == 0);
  printf("back\n");
  EXPECT(swapcontext(&main_context, &other_context) == 0);
  printf("end\n");
  return 0;
}
