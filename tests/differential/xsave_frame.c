// The vector state in a signal frame: seen there by the handler, and changed there for the interrupted code.
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "expect.h"

#define MAGIC1 0x46505853u
#define MAGIC2 0x46505845u
enum { kReservedOffset = 464, kHeaderOffset = 512, kXmmOffset = 160 };

// struct _fpx_sw_bytes of the kernel's ABI.
struct software_bytes {
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t xstate_size, padding[7];
};

static uint32_t ymm_offset;
static int has_avx;
static volatile uint64_t seen_xmm[2], seen_ymm[2];
static volatile int frames;

static void on_signal(int signal, siginfo_t* info, void* opaque) {
  (void)signal, (void)info;
  ucontext_t* context = opaque;
  char* area = (char*)context->uc_mcontext.fpregs;
  EXPECT(area != NULL && ((uintptr_t)area & 63) == 0);
  const struct software_bytes* software = (const struct software_bytes*)(area + kReservedOffset);
  uint32_t magic2;
  EXPECT(software->magic1 == MAGIC1);
  EXPECT(software->extended_size == software->xstate_size + 4);
  memcpy(&magic2, area + software->xstate_size, sizeof(magic2));
  EXPECT(magic2 == MAGIC2);
  EXPECT((software->features & 3) == 3);
  ++frames;
  memcpy((void*)seen_xmm, area + kXmmOffset + 16 * 5, 16);
  if (has_avx) memcpy((void*)seen_ymm, area + ymm_offset + 16 * 5, 16);
  uint64_t xmm[2] = {0xabcdef, 0x123456}, ymm[2] = {0x777, 0x888};
  uint64_t* present = (uint64_t*)(area + kHeaderOffset);
  *present |= has_avx ? 7 : 3;
  memcpy(area + kXmmOffset + 16 * 5, xmm, 16);
  if (has_avx) memcpy(area + ymm_offset + 16 * 5, ymm, 16);
  // MXCSR: round towards zero.
  uint32_t mxcsr;
  memcpy(&mxcsr, area + 24, 4);
  mxcsr |= 0x6000;
  memcpy(area + 24, &mxcsr, 4);
}

#define RUN(provocation)                                                               \
  do {                                                                                 \
    uint64_t in[4] = {0x11, 0x22, 0x33, 0x44}, out[4] = {0, 0, 0, 0};                  \
    uint32_t mxcsr;                                                                    \
    if (has_avx) {                                                                     \
      __asm__ volatile("vmovdqu %[in], %%ymm5\n" provocation                           \
                       "vmovdqu %%ymm5, %[out]\nstmxcsr %[mxcsr]\nvzeroupper\n"        \
                       : [out] "=m"(out), [mxcsr] "=m"(mxcsr)                          \
                       : [in] "m"(in), [signal] "r"(SIGUSR1), [number] "r"(234L),      \
                         [pid] "r"((long)getpid())                                     \
                       : "rax", "rcx", "r11", "rdi", "rsi", "rdx", "xmm5", "memory");  \
    } else {                                                                           \
      __asm__ volatile("movdqu %[in], %%xmm5\n" provocation                            \
                       "movdqu %%xmm5, %[out]\nstmxcsr %[mxcsr]\n"                     \
                       : [out] "=m"(out), [mxcsr] "=m"(mxcsr)                          \
                       : [in] "m"(in), [signal] "r"(SIGUSR1), [number] "r"(234L),      \
                         [pid] "r"((long)getpid())                                     \
                       : "rax", "rcx", "r11", "rdi", "rsi", "rdx", "xmm5", "memory");  \
    }                                                                                  \
    printf("seen %lx %lx | %lx %lx; changed to %lx %lx | %lx %lx; mxcsr %x\n", seen_xmm[0], seen_xmm[1], seen_ymm[0], \
           seen_ymm[1], out[0], out[1], out[2], out[3], mxcsr & 0xffc0);               \
    const uint32_t usual = 0x1f80;                                                     \
    __asm__ volatile("ldmxcsr %0" ::"m"(usual));                                       \
  } while (0)

static void on_trap(int signal, siginfo_t* info, void* context) {
  on_signal(signal, info, context);
}

int main(void) {
  unsigned a, b, c, d;
  has_avx = __builtin_cpu_supports("avx") != 0;
  if (has_avx) {
    EXPECT(__get_cpuid_count(13, 2, &a, &b, &c, &d));
    ymm_offset = b;
  }
  printf("avx %d\n", has_avx);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
  action.sa_sigaction = on_trap;
  EXPECT(sigaction(SIGTRAP, &action, NULL) == 0);
  // A signal sent by a system call, then one by a fault.
  RUN("mov %[pid], %%rdi\nmov %[pid], %%rsi\nmov %k[signal], %%edx\nmov %[number], %%rax\nsyscall\n");
  RUN("int3\n");
  // On an alternate stack of a caller's choice the area is aligned too.
  static char stack[70000];
  stack_t alternate = {.ss_sp = stack + 13, .ss_size = sizeof(stack) - 100};
  EXPECT(sigaltstack(&alternate, NULL) == 0);
  action.sa_flags |= SA_ONSTACK;
  EXPECT(sigaction(SIGTRAP, &action, NULL) == 0);
  RUN("int3\n");
  printf("frames %d\n", frames);
  return 0;
}
