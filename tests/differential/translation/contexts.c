// Stacks that change under the code: setjmp and longjmp in loops, makecontext and swapcontext, coroutines of hand-written assembly,
// a handler that enters its own context again, and jumps out of handlers.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#include "../expect.h"

static jmp_buf buffers[10];

static void jump_from(int depth, int to, int value);
static void (*volatile next_jump)(int, int, int) = jump_from;

static void jump_from(int depth, int to, int value) {
  volatile char pad[64];
  pad[0] = (char)depth;
  if (depth == 0) longjmp(buffers[to], value);
  next_jump(depth - 1, to, value);
  pad[1] = pad[0];
}

static void many_jumps(void) {
  volatile long sum = 0;
  for (volatile int i = 0; i < 2000; i = i + 1) {
    const volatile int value = setjmp(buffers[i % 10]);
    if (value == 0) jump_from(i % 50, i % 10, i % 7);
    sum = sum * 3 + value + i;
  }
  printf("many jumps: %lx\n", sum);
}

enum { kFibers = 8, kRounds = 200 };
static ucontext_t fibers[kFibers], back;
static char stacks[kFibers][65536];
static long shared = 1;

static void fiber(int number) {
  double own = number;
  for (volatile int i = 0; i < kRounds; i = i + 1) {
    shared = shared * 3 + number;
    own = own * 1.5 + i;
    if (own > 1e6) own /= 1e6;
    EXPECT(swapcontext(&fibers[number], &fibers[(number + 1) % kFibers]) == 0);
  }
  shared += (long)(own * 1000);
}

static void ring_of_fibers(void) {
  for (volatile int i = 0; i < kFibers; i = i + 1) {
    EXPECT(getcontext(&fibers[i]) == 0);
    fibers[i].uc_stack.ss_sp = stacks[i];
    fibers[i].uc_stack.ss_size = sizeof(stacks[i]);
    fibers[i].uc_link = i + 1 < kFibers ? &fibers[i + 1] : &back;
    makecontext(&fibers[i], (void (*)(void))fiber, 1, i);
  }
  EXPECT(swapcontext(&back, &fibers[0]) == 0);
  printf("ring of fibers: %lx\n", shared);
}

// void switch_stack(void** from, void* to): the least that a coroutine library does.
void switch_stack(void** from, void* to);
__asm__(
    ".text\nswitch_stack:\n"
    "  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rsp, (%rdi)\n  mov %rsi, %rsp\n"
    "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
    "  ret\n");

static void *main_stack, *coroutine_stack[2];
static long produced;

static void coroutine(void) {
  for (long i = 0;; ++i) {
    produced = produced * 3 + i;
    switch_stack(&coroutine_stack[i % 2], main_stack);
  }
}

static void coroutines(void) {
  uint64_t* top = (uint64_t*)(stacks[0] + sizeof(stacks[0]));
  *--top = 0;  // the alignment at a function's start
  *--top = (uint64_t)coroutine;
  top -= 6;
  coroutine_stack[1] = top;
  for (long i = 0; i < 20000; ++i) {
    switch_stack(&main_stack, coroutine_stack[(i + 1) % 2]);
  }
  printf("coroutines: %lx\n", produced);
}

// A handler that enters its own context 50 times before it returns.
static ucontext_t inside_handler;
static volatile int entries;

static void enter_again(int signal) {
  (void)signal;
  EXPECT(getcontext(&inside_handler) == 0);
  entries = entries + 1;
  if (entries < 50) setcontext(&inside_handler);
}

static void context_of_a_handler(void) {
  EXPECT(signal(SIGUSR1, enter_again) != SIG_ERR);
  raise(SIGUSR1);
  printf("context of a handler: %d\n", entries);
}

static sigjmp_buf out;
static void leave(int signal) { siglongjmp(out, signal); }

static void out_of_handlers(void) {
  EXPECT(signal(SIGUSR2, leave) != SIG_ERR && signal(SIGFPE, leave) != SIG_ERR);
  volatile long sum = 0;
  for (volatile int i = 0; i < 500; i = i + 1) {
    const int value = sigsetjmp(out, 1);
    if (value == 0) {
      if (i % 2 == 0) raise(SIGUSR2);
      volatile int zero = 0;
      sum = sum + 5 / zero;
    }
    sum = sum * 3 + value;
  }
  printf("out of handlers: %lx\n", sum);
}

int main(void) {
  many_jumps();
  ring_of_fibers();
  coroutines();
  context_of_a_handler();
  out_of_handlers();
  return 0;
}
