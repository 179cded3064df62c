// Vector and mask registers live across system calls, page faults and asynchronous signal handlers that overwrite them all; a child
// has its parent's, a handler begins with none, and a thread finds nothing of one that was there before it.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

#define REGISTERS 32
#define MASKS 7  // k1..k7

struct vectors {
  uint64_t zmm[REGISTERS][8];
  uint64_t mask[MASKS];
} __attribute__((aligned(64)));

static volatile sig_atomic_t alarms;

#define EACH_ZMM(X)                                                                                  \
  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) \
  X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
#define LOAD(n) "vmovdqu64 " #n "*64(%[in]), %%zmm" #n "\n"
#define STORE(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%[out])\n"
#define CLEAR(n) "vpternlogd $0xff, %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
#define EACH_MASK(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define LOAD_MASK(n) "kmovq 2048-8+" #n "*8(%[in]), %%k" #n "\n"
#define STORE_MASK(n) "kmovq %%k" #n ", 2048-8+" #n "*8(%[out])\n"
#define CLEAR_MASK(n) "kxnorq %%k" #n ", %%k" #n ", %%k" #n "\n"
#define CLOBBERS                                                                                       \
  "memory", "cc", "rax", "rcx", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
      "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

// Inline, so that nothing is called in between.
static inline __attribute__((always_inline)) void store_all(struct vectors* out) {
  __asm__ volatile(EACH_ZMM(STORE) EACH_MASK(STORE_MASK)::[out] "r"(out) : "memory");
}

static struct vectors at_handler;

static void on_alarm(int signal) {
  store_all(&at_handler);
  (void)signal;
  ++alarms;
  __asm__ volatile(EACH_ZMM(CLEAR) EACH_MASK(CLEAR_MASK)::: CLOBBERS);
}

// Loads every register, does `rounds` of getppid or (number < 0) of nothing, stores them.
static void hold(const struct vectors* in, struct vectors* out, long rounds, long number) {
  __asm__ volatile(EACH_ZMM(LOAD) EACH_MASK(LOAD_MASK)
                   "1: test %[number], %[number]\n"
                   "js 2f\n"
                   "mov %[number], %%rax\n"
                   "syscall\n"
                   "2: dec %[rounds]\n"
                   "jnz 1b\n" EACH_ZMM(STORE) EACH_MASK(STORE_MASK)
                   : [rounds] "+r"(rounds)
                   : [in] "r"(in), [out] "r"(out), [number] "r"(number)
                   : CLOBBERS);
}

static void fill(struct vectors* vectors, uint64_t seed) {
  uint64_t* words = (uint64_t*)vectors;
  for (size_t i = 0; i < sizeof(*vectors) / 8; ++i) words[i] = seed += 0x9e3779b97f4a7c15;
}

static int same(const struct vectors* a, const struct vectors* b) {
  return memcmp(a->zmm, b->zmm, sizeof(a->zmm)) == 0 && memcmp(a->mask, b->mask, sizeof(a->mask)) == 0;
}

static void hold_and_compare(const char* what, uint64_t seed, long rounds, long number) {
  struct vectors in, out;
  fill(&in, seed);
  memset(&out, 0, sizeof(out));
  hold(&in, &out, rounds, number);
  EXPECT(same(&in, &out));
  printf("%s: kept\n", what);
}

static void fork_while_held(void) {
  struct vectors in, out;
  fill(&in, 5);
  memset(&out, 0, sizeof(out));
  const pid_t self = getpid();
  fflush(stdout);
  hold(&in, &out, 1, SYS_fork);
  EXPECT(same(&in, &out));
  if (getpid() != self) _exit(0);
  int status = -1;
  EXPECT(wait(&status) > 0 && status == 0);
  printf("fork: kept by both\n");
}

static void* leave_registers(void* in) {
  struct vectors out;
  hold(in, &out, 1, SYS_getppid);
  return NULL;
}

static void* look_for(void* raw) {
  struct vectors found;
  store_all(&found);
  const struct vectors* left = raw;
  for (int i = 16; i < REGISTERS; ++i) EXPECT(memcmp(found.zmm[i], left->zmm[i], 64) != 0);
  for (int i = 0; i < MASKS; ++i) EXPECT(found.mask[i] != left->mask[i]);
  return NULL;
}

static void threads_in_turn(void) {
  for (int round = 0; round < 10; ++round) {
    static struct vectors secret;
    fill(&secret, (uint64_t)round + 1000);
    void* (*const does[])(void*) = {leave_registers, look_for};
    for (int i = 0; i < 2; ++i) {
      pthread_t thread;
      EXPECT(pthread_create(&thread, NULL, does[i], &secret) == 0);
      EXPECT(pthread_join(thread, NULL) == 0);
    }
  }
  printf("threads: each its own\n");
}

// The destination's pages are touched for the first time by the stores themselves.
static void fault_while_held(void) {
  struct vectors in;
  fill(&in, 77);
  for (int i = 0; i < 50; ++i) {
    char* fresh = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(fresh != MAP_FAILED);
    struct vectors* out = (struct vectors*)(fresh + 4096 - 1024);
    hold(&in, out, 1, -1);
    EXPECT(same(&in, out));
    EXPECT(munmap(fresh, 8192) == 0);
  }
  printf("page faults: kept\n");
}

__attribute__((target("avx512f"), optimize("tree-vectorize"))) static int64_t sum(const int32_t* values, int count) {
  int64_t total = 0;
  for (int i = 0; i < count; ++i) total += values[i];
  return total;
}

int main(void) {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) SKIP("the processor has no AVX-512");
  static int32_t values[100000];
  for (int i = 0; i < 100000; ++i) values[i] = i * 7919 % 100003 - 50000;
  printf("sum %ld\n", (long)sum(values, 100000));

  hold_and_compare("system calls", 1, 300, SYS_getppid);
  fault_while_held();
  fork_while_held();
  threads_in_turn();

  struct sigaction action = {.sa_handler = on_alarm};
  EXPECT(sigaction(SIGALRM, &action, NULL) == 0);
  struct itimerval every = {{0, 2000}, {0, 2000}};
  EXPECT(setitimer(ITIMER_REAL, &every, NULL) == 0);
  while (alarms < 20) {
    struct vectors in, out;
    fill(&in, 3);
    hold(&in, &out, 20000000, -1);
    EXPECT(same(&in, &out));
  }
  printf("handlers in a loop: kept\n");
  static const struct vectors none;
  EXPECT(same(&at_handler, &none));
  printf("handlers begin with none\n");
  alarms = 0;
  for (int i = 0; i < 100 && alarms < 20; ++i) {
    struct vectors in, out;
    fill(&in, (uint64_t)i);
    hold(&in, &out, 200, SYS_getppid);
    EXPECT(same(&in, &out));
  }
  struct itimerval never = {{0, 0}, {0, 0}};
  EXPECT(setitimer(ITIMER_REAL, &never, NULL) == 0);
  printf("handlers between system calls: kept\n");
  return 0;
}
