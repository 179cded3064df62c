// Asynchronous signals by the thousand into loops of every shape. The handlers overwrite every register; each loop must still end
// with the sum it has without signals, and what a handler sees of the interrupted loop must be exact: an instruction's first byte
// in RIP, and the registers that the loop holds constant.
//
//   signal_storms [timer | thread] [unstepped] [LOOP...]    who sends; without finding the instructions by the trap flag; which loops
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../expect.h"

// uint64_t NAME(rounds): the loop between NAME_begin and NAME_end, where rbx, r12 to r15 hold constants and rcx counts down.
#define LOOP(name, body)                                                                              \
  __asm__(".text\n.p2align 6\n" #name ":\n"                                                           \
          "  push %rbx; push %r12; push %r13; push %r14; push %r15; push %rbp\n"                      \
          "  mov $0x6b6b6b6b6b6b6b6b, %rbx; mov $0x1212121212121212, %r12\n"                          \
          "  mov $0x1313131313131313, %r13; mov $0x1414141414141414, %r14\n"                          \
          "  mov $0x1515151515151515, %r15\n"                                                         \
          "  mov %rdi, %rcx; mov $1, %eax; mov $7, %edx; mov $9, %esi; mov $11, %r8d\n"               \
          "  mov $13, %r9d; mov $17, %r10d; mov $19, %r11d; lea storm_memory(%rip), %rdi\n"           \
          "  clc\n" #name "_begin:\n" body #name "_end:\n"                                            \
          "  lea (%rax, %rdx), %rax; add %rsi, %rax; add %r8, %rax; add %r9, %rax\n"                  \
          "  add %r10, %rax; add %r11, %rax; add %rcx, %rax; add %rbx, %rax\n"                        \
          "  pop %rbp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx\n"                            \
          "  ret\n");                                                                                 \
  uint64_t name(uint64_t rounds);                                                                     \
  extern char name##_begin[], name##_end[]

#define TEN(x) x x x x x x x x x x

LOOP(one_instruction, "1: loop 1b\n");
LOOP(two_instructions, "1: dec %rcx\n jnz 1b\n");
LOOP(five_instructions, "1: adc %rcx, %rax\n rol $3, %rax\n lea (%rdx, %rax), %rdx\n dec %rcx\n jnz 1b\n");
LOOP(fifty_instructions,
     "1:\n" TEN("imul $3, %rax, %rax\n xor %rcx, %rax\n ror $5, %rdx\n adc %rax, %rdx\n sbb %rsi, %r8\n") "dec %rcx\n jnz 1b\n");
LOOP(flags_live_all_the_time,
     "cmp %rcx, %rcx; stc\n"
     "1: lea (%rax, %rax, 2), %rax\n adc $0, %rax\n jc 2f\n 2: sbb %rdx, %rdx\n adc %rax, %rsi\n"
     "lea -1(%rcx), %rcx\n jrcxz 3f\n jmp 1b\n 3:\n");
LOOP(calls,
     "1: call 3f\n dec %rcx\n jnz 1b\n jmp 9f\n"
     "3: add $3, %rax\n call 4f\n rol $1, %rax\n ret\n"
     "4: push %rax\n call 5f\n pop %rsi\n xor %rsi, %rdx\n ret\n"
     "5: lea 1(%rax, %rcx), %rax\n ret $0\n 9:\n");
LOOP(indirect_jumps,
     "1: mov %ecx, %esi\n and $3, %esi\n lea 8f(%rip), %r8\n movslq (%r8, %rsi, 4), %rsi\n add %r8, %rsi\n cmp %rax, %rdx\n jmp *%rsi\n"
     "2: adc $1, %rax\n jmp 7f\n 3: rol $7, %rax\n jmp 7f\n 4: sbb %rcx, %rax\n jmp 7f\n 5: xor %rcx, %rdx\n"
     "7: dec %rcx\n jnz 1b\n xor %esi, %esi\n xor %r8d, %r8d\n jmp 9f\n"
     ".p2align 2\n 8: .long 2b-8b, 3b-8b, 4b-8b, 5b-8b\n 9:\n");
LOOP(indirect_calls,
     "lea 3f(%rip), %r8\n lea 4f(%rip), %r9\n"
     "1: call *%r8\n xchg %r8, %r9\n push %r9\n call *(%rsp)\n pop %r9\n dec %rcx\n jnz 1b\n xor %r8d, %r8d\n xor %r9d, %r9d\n jmp 9f\n"
     "3: add %rcx, %rax\n ret\n 4: rol $3, %rax\n ret\n 9:\n");
LOOP(memory,
     "1: mov %ecx, %esi\n and $0xff, %esi\n add %rcx, (%rdi, %rsi, 8)\n mov (%rdi, %rsi, 8), %r8\n lock xadd %r8, 2048(%rdi)\n"
     "add %r8, %rax\n push %rax\n pop %rdx\n xor %edx, %edx\n dec %rcx\n jnz 1b\n");
LOOP(vectors,
     "movq %rax, %xmm0\n movq %rdx, %xmm1\n movq %rsi, %xmm2\n"
     "1: paddq %xmm1, %xmm0\n pshufd $0x1b, %xmm0, %xmm3\n pxor %xmm3, %xmm2\n psllq $1, %xmm1\n por %xmm2, %xmm1\n dec %rcx\n jnz 1b\n"
     "movq %xmm0, %rax\n movq %xmm1, %rdx\n movq %xmm2, %rsi\n");
LOOP(x87,
     "fldpi\n fld1\n"
     "1: fadd %st(1), %st\n fsqrt\n dec %rcx\n jnz 1b\n"
     "fstpl (%rdi)\n fstp %st(0)\n mov (%rdi), %rax\n");
LOOP(system_calls,
     "mov %rcx, %rsi\n"
     "1: mov $0xffff, %eax\n syscall\n lea 1b(%rip), %rdx\n sub %rcx, %rdx\n add %rax, %r8\n add %rdx, %r9\n dec %rsi\n jnz 1b\n xor %ecx, %ecx\n xor %r11d, %r11d\n");

// Whole-string instructions, which are interrupted in their middle: rcx is the string's length.
LOOP(string_move, "lea 8192(%rdi), %rsi\n and $0xfff, %ecx\n xchg %rsi, %rdi\n add $0x10000, %rcx\n rep movsb\n sub %rdi, %rsi\n");
LOOP(string_store, "mov %rcx, %r8\n mov $0x20000, %ecx\n mov $0x77, %eax\n rep stosb\n movzbl -1(%rdi), %eax\n");
LOOP(string_scan, "mov $0x40000, %ecx\n mov $0xff, %eax\n repne scasb\n");

enum { kMemory = 1 << 20 };
char storm_memory[kMemory] __attribute__((aligned(64)));

struct loop {
  const char* name;
  uint64_t (*run)(uint64_t);
  const char *begin, *end;
  uint64_t rounds;
};
#define ROW(name, rounds) {#name, name, name##_begin, name##_end, rounds}
static const struct loop loops[] = {
    ROW(one_instruction, 300000),   ROW(two_instructions, 300000), ROW(five_instructions, 200000),
    ROW(fifty_instructions, 20000), ROW(flags_live_all_the_time, 100000),
    ROW(calls, 50000),              ROW(indirect_jumps, 50000),    ROW(indirect_calls, 50000),
    ROW(memory, 50000),             ROW(vectors, 100000),          ROW(x87, 30000),
    ROW(system_calls, 30),          ROW(string_move, 1),           ROW(string_store, 5),
    ROW(string_scan, 5),
};
enum { kLoops = sizeof(loops) / sizeof(loops[0]) };

static const struct loop* current;
static unsigned char boundaries[1024];  // which offsets of the current loop begin an instruction
static atomic_int signals;
static atomic_int inside;  // signals that found the loop
static atomic_bool finished;
static int unstepped;
static pthread_t runner;

static void clobber_everything(void) {
  __asm__ volatile(
      "mov $-1, %%rax; mov %%rax, %%rcx; mov %%rax, %%rdx; mov %%rax, %%rbx; mov %%rax, %%rsi; mov %%rax, %%rdi\n"
      "mov %%rax, %%r8; mov %%rax, %%r9; mov %%rax, %%r10; mov %%rax, %%r11; mov %%rax, %%r12; mov %%rax, %%r13\n"
      "mov %%rax, %%r14; mov %%rax, %%r15\n"
      "pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm1, %%xmm1; pcmpeqd %%xmm2, %%xmm2; pcmpeqd %%xmm3, %%xmm3\n"
      "fninit; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fldz; fninit\n"
      "add %%rax, %%rax; stc\n" ::
          : "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2",
            "xmm3", "cc", "memory");
}

static void on_signal(int signal, siginfo_t* info, void* opaque) {
  (void)signal, (void)info;
  const greg_t* registers = ((ucontext_t*)opaque)->uc_mcontext.gregs;
  const char* rip = (const char*)registers[REG_RIP];
  if (current != NULL && rip >= current->begin && rip < current->end) {
    EXPECT(boundaries[rip - current->begin]);
    EXPECT(registers[REG_RBX] == 0x6b6b6b6b6b6b6b6b && registers[REG_R12] == 0x1212121212121212);
    EXPECT(registers[REG_R13] == 0x1313131313131313 && registers[REG_R14] == 0x1414141414141414);
    EXPECT(registers[REG_R15] == 0x1515151515151515);
    atomic_fetch_add(&inside, 1);
  }
  clobber_everything();
  atomic_fetch_add(&signals, 1);
}

// Finds the boundaries by stepping through one short run with the trap flag.
static void on_step(int signal, siginfo_t* info, void* opaque) {
  (void)signal, (void)info;
  const char* rip = (const char*)((ucontext_t*)opaque)->uc_mcontext.gregs[REG_RIP];
  if (rip >= current->begin && rip < current->end) boundaries[rip - current->begin] = 1;
}

static void find_boundaries(void) {
  memset(boundaries, 0, sizeof(boundaries));
  EXPECT(current->end - current->begin < (long)sizeof(boundaries));
  boundaries[0] = 1;
  __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq" ::: "cc", "memory");
  current->run(12);
  __asm__ volatile("pushfq; andl $~0x100, (%%rsp); popfq" ::: "cc", "memory");
  // No step ends behind `syscall`.
  for (int i = 0; i < current->end - current->begin - 1; ++i) {
    if (boundaries[i] && memcmp(current->begin + i, "\x0f\x05", 2) == 0) boundaries[i + 2] = 1;
  }
}

static uint64_t run_once(void) {
  memset(storm_memory, 0, sizeof(storm_memory));
  uint64_t sum = current->run(current->rounds);
  for (int i = 0; i < kMemory; i += 64) sum = sum * 31 + (uint64_t)storm_memory[i];
  return sum;
}

static void* send(void* unused) {
  (void)unused;
  while (!atomic_load(&finished)) {
    const int before = atomic_load(&signals);
    EXPECT(pthread_kill(runner, SIGUSR1) == 0);
    // Not faster than they are handled, or the loop never gets on; but at every place of it.
    for (int i = 0; i < 2000 && atomic_load(&signals) == before; ++i) __asm__ volatile("pause");
    if (atomic_load(&signals) == before) usleep(20);
    for (volatile int i = 0; i < before % 97; i = i + 1) {
    }
  }
  return NULL;
}

static int is_string(const struct loop* loop) { return strncmp(loop->name, "string", 6) == 0; }

static void storm(const struct loop* loop, int by_timer, int wanted) {
  current = loop;
  // A string takes one step for each element.
  if (is_string(loop) || unstepped) {
    memset(boundaries, 1, sizeof(boundaries));
  } else {
    find_boundaries();
  }
  const uint64_t expected = run_once();
  EXPECT(run_once() == expected);
  atomic_store(&signals, 0);
  atomic_store(&inside, 0);
  atomic_store(&finished, 0);
  pthread_t sender;
  sigset_t all, before;
  if (by_timer) {
    const struct itimerval every = {{0, 300}, {0, 300}};
    EXPECT(setitimer(ITIMER_REAL, &every, NULL) == 0);
  } else {
    // The sender is not to take the timer's signals.
    sigfillset(&all);
    EXPECT(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    EXPECT(pthread_create(&sender, NULL, send, NULL) == 0);
    EXPECT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
  }
  while (atomic_load(&signals) < wanted || atomic_load(&inside) < wanted / 20) EXPECT(run_once() == expected);
  atomic_store(&finished, 1);
  if (by_timer) {
    const struct itimerval never = {{0, 0}, {0, 0}};
    EXPECT(setitimer(ITIMER_REAL, &never, NULL) == 0);
  } else {
    EXPECT(pthread_join(sender, NULL) == 0);
  }
  EXPECT(run_once() == expected);
  current = NULL;
  printf("%s, signals by %s: the sum holds\n", loop->name, by_timer ? "the timer" : "a thread");
  fflush(stdout);
}

int main(int argc, char** argv) {
  runner = pthread_self();
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
  EXPECT(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
  action.sa_sigaction = on_step;
  EXPECT(sigaction(SIGTRAP, &action, NULL) == 0);
  int timer = 0, thread = 0, named = 0;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "timer") == 0) {
      timer = 1;
    } else if (strcmp(argv[i], "thread") == 0) {
      thread = 1;
    } else if (strcmp(argv[i], "unstepped") == 0) {
      unstepped = 1;
    } else {
      named = 1;
    }
  }
  for (int i = 0; i < kLoops; ++i) {
    int wanted = !named;
    for (int k = 1; k < argc; ++k) wanted |= strcmp(argv[k], loops[i].name) == 0;
    if (!wanted) continue;
    if (timer || !thread) storm(&loops[i], 1, 200);
    if (thread || !timer) storm(&loops[i], 0, 1000);
  }
  return 0;
}
