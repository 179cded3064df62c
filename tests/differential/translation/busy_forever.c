// Loops that only a signal ends: the handler changes RIP, jumps out, or sets a flag. An engine that looks for signals at the wrong
// places never comes back. The latencies go to standard error, which is not compared.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../expect.h"

// void NAME(void): loops until a handler moves RIP to the end. Registers other than rax, rcx, rdx stay.
#define FOREVER(name, body)                                                              \
  __asm__(".text\n.p2align 4\n" #name ":\n xor %eax, %eax\n mov $1, %ecx\n xor %edx, %edx\n" #name \
          "_begin:\n" body #name "_end: mov %rdx, %rax\n ret\n");                        \
  long name(void);                                                                       \
  extern char name##_begin[], name##_end[]

FOREVER(jump_to_itself, "1: jmp 1b\n");
FOREVER(near_jump_to_itself, "1: {disp32} jmp 1b\n");
FOREVER(condition_to_itself, "cmp %eax, %eax\n 1: je 1b\n");
FOREVER(zero_to_itself, "xor %ecx, %ecx\n 1: jrcxz 1b\n");
FOREVER(two_jumps, "1: jmp 2f\n 2: jmp 1b\n");
FOREVER(one_addition, "1: add $1, %rax\n jmp 1b\n");
FOREVER(register_jump_to_itself, "lea 1f(%rip), %rcx\n 1: jmp *%rcx\n");
FOREVER(memory_jump_to_itself, "lea 1f(%rip), %rcx\n mov %rcx, -64(%rsp)\n 1: jmp *-64(%rsp)\n");
FOREVER(return_to_itself, "lea 1f(%rip), %rcx\n 1: push %rcx\n lea 8(%rsp), %rsp\n lea -8(%rsp), %rsp\n ret\n");
FOREVER(calls_that_return, "1: call 2f\n jmp 1b\n 2: ret\n");
FOREVER(call_and_drop, "1: call 2f\n 2: lea 8(%rsp), %rsp\n jmp 1b\n");
FOREVER(pause_loop, "1: pause\n jmp 1b\n");
FOREVER(waits_for_memory, "1: cmpq $0, -128(%rsp)\n je 1b\n jmp 1b\n");
FOREVER(long_block, "1:\n .rept 3000\n add $1, %rax\n rol $1, %rax\n .endr\n jmp 1b\n");
FOREVER(long_strings, "1: lea scratch(%rip), %rdi\n mov $0x100000, %ecx\n rep stosb\n jmp 1b\n");
FOREVER(system_calls, "1: mov $0xffff, %eax\n syscall\n jmp 1b\n");
FOREVER(waits_for_a_flag, "1: mov flag(%rip), %eax\n test %eax, %eax\n jz 1b\n");

char scratch[0x100000];
volatile int flag;

struct loop {
  const char* name;
  long (*run)(void);
  const char *begin, *end;
};
#define ROW(name) {#name, name, name##_begin, name##_end}
static const struct loop loops[] = {
    ROW(jump_to_itself),      ROW(near_jump_to_itself),     ROW(condition_to_itself),   ROW(zero_to_itself),
    ROW(two_jumps),           ROW(one_addition),            ROW(register_jump_to_itself), ROW(memory_jump_to_itself),
    ROW(return_to_itself),    ROW(calls_that_return),       ROW(call_and_drop),         ROW(pause_loop),
    ROW(waits_for_memory),    ROW(long_block),              ROW(long_strings),          ROW(system_calls),
    ROW(waits_for_a_flag),
};
enum { kLoops = sizeof(loops) / sizeof(loops[0]), kRounds = 30 };

static const struct loop* current;
uint64_t stack_at_start_of_loop;
static pthread_t runner;
static _Atomic int64_t sent_at;
static atomic_int state;  // 0 nothing, 1 the loop runs, 2 signal sent
static atomic_bool done;
static int64_t slowest;
static sigjmp_buf escape;
static enum { kMoveRip, kJump, kSetFlag } way;

static int64_t now(void) {
  struct timespec time;
  EXPECT(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
  return time.tv_sec * 1000000000 + time.tv_nsec;
}

static void on_signal(int signal, siginfo_t* info, void* opaque) {
  (void)signal, (void)info;
  greg_t* registers = ((ucontext_t*)opaque)->uc_mcontext.gregs;
  const char* rip = (const char*)registers[REG_RIP];
  const int64_t latency = now() - sent_at;
  if (latency > slowest) slowest = latency;
  if (rip < current->begin || rip >= current->end) {
    atomic_store(&state, 1);  // too early: once more
    return;
  }
  atomic_store(&state, 0);
  switch (way) {
    case kMoveRip:
      registers[REG_RIP] = (greg_t)current->end;
      registers[REG_RSP] = (greg_t)stack_at_start_of_loop;
      registers[REG_RDX] = 4711;
      return;
    case kJump:
      siglongjmp(escape, 1);
    case kSetFlag:
      flag = 1;
  }
}

static void* send(void* unused) {
  (void)unused;
  while (!atomic_load(&done)) {
    if (atomic_load(&state) != 1) {
      usleep(50);
      continue;
    }
    usleep(200);
    atomic_store(&state, 2);
    sent_at = now();
    EXPECT(pthread_kill(runner, SIGUSR1) == 0);
  }
  return NULL;
}

// The stack pointer as it is at the loop's begin.
__attribute__((noinline)) static long enter(void) {
  long result;
  __asm__ volatile(
      "lea -8-128(%%rsp), %%rcx\n mov %%rcx, stack_at_start_of_loop(%%rip)\n"
      "sub $128, %%rsp\n call *%[run]\n add $128, %%rsp\n"
      : "=a"(result)
      : [run] "r"(current->run)
      : "rcx", "rdx", "rdi", "r11", "memory", "cc");
  return result;
}

int main(void) {
  runner = pthread_self();
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
  sigset_t all, before;
  sigfillset(&all);
  EXPECT(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
  pthread_t sender;
  EXPECT(pthread_create(&sender, NULL, send, NULL) == 0);
  EXPECT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
  for (int i = 0; i < kLoops; ++i) {
    current = &loops[i];
    slowest = 0;
    for (volatile int round = 0; round < kRounds; round = round + 1) {
      way = current->run == waits_for_a_flag ? kSetFlag : round % 2 == 0 ? kMoveRip : kJump;
      flag = 0;
      if (sigsetjmp(escape, 1) != 0) continue;
      atomic_store(&state, 1);
      const long result = enter();
      EXPECT(way == kMoveRip ? result == 4711 : 1);
    }
    printf("%s: ended %d times\n", current->name, kRounds);
    fflush(stdout);
    fprintf(stderr, "%s: slowest %ld us\n", current->name, (long)(slowest / 1000));
  }
  atomic_store(&done, 1);
  EXPECT(pthread_join(sender, NULL) == 0);
  return 0;
}
