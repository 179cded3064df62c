// Uses the AVX-512 registers without asking CPUID, as code compiled for one machine does. Whether the processor has them says
// /proc/cpuinfo, which an engine cannot change.
#include <stdint.h>

#include "../expect.h"

static int machine_has(const char* word) {
  static char line[65536];
  FILE* file = fopen("/proc/cpuinfo", "r");
  EXPECT(file != NULL);
  int found = 0;
  while (!found && fgets(line, sizeof(line), file) != NULL) {
    if (strncmp(line, "flags", 5) == 0) found = strstr(line, word) != NULL;
  }
  fclose(file);
  return found;
}

__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"), optimize("O3"))) static long sum(const int32_t* values, int count) {
  long total = 0;
  for (int i = 0; i < count; ++i) total += (long)values[i] * (values[i] ^ i);
  return total;
}

__attribute__((target("avx2,fma"), optimize("O3"))) static double dot(const double* a, const double* b, int count) {
  double total = 0;
  for (int i = 0; i < count; ++i) total = __builtin_fma(a[i], b[i], total);
  return total;
}

// All 32 registers and the masks over calls, a loop and a system call.
static uint64_t rotate(long rounds) {
  static uint64_t memory[8 * 4] __attribute__((aligned(64)));
  for (int i = 0; i < 32; ++i) memory[i] = (uint64_t)i * 0x9e3779b97f4a7c15u;
  __asm__ volatile(
      "vmovdqu64 (%[memory]), %%zmm0\n vmovdqu64 64(%[memory]), %%zmm31\n vmovdqu64 128(%[memory]), %%zmm16\n"
      "mov $0xa5a5, %%eax\n kmovw %%eax, %%k3\n"
      "1: vpaddq %%zmm31, %%zmm0, %%zmm0\n vprolq $7, %%zmm0, %%zmm0\n vpxorq %%zmm16, %%zmm0, %%zmm31%{%%k3%}\n"
      "call 2f\n mov $0xffff, %%eax\n test $63, %[rounds]\n jnz 3f\n syscall\n"
      "3: dec %[rounds]\n jnz 1b\n jmp 4f\n"
      "2: vpternlogq $0x96, %%zmm0, %%zmm31, %%zmm16\n knotw %%k3, %%k3\n ret\n"
      "4: vmovdqu64 %%zmm0, (%[memory])\n vmovdqu64 %%zmm31, 64(%[memory])\n vmovdqu64 %%zmm16, 128(%[memory])\n vzeroupper\n"
      : [rounds] "+r"(rounds)
      : [memory] "r"(memory)
      : "rax", "rcx", "r11", "xmm0", "memory", "cc");
  uint64_t hash = 0;
  for (int i = 0; i < 32; ++i) hash = hash * 31 + memory[i];
  return hash;
}

int main(void) {
  if (!machine_has(" avx512f") || !machine_has(" avx512bw")) SKIP("the processor has no AVX-512");
  static int32_t values[10007];
  static double a[1001], b[1001];
  for (int i = 0; i < 10007; ++i) values[i] = i * 7919 % 100003 - 50000;
  for (int i = 0; i < 1001; ++i) a[i] = i / 7.0, b[i] = 1.0 / (i + 1);
  printf("sum %ld\n", sum(values, 10007));
  printf("dot %.17g\n", dot(a, b, 1001));
  printf("rotate %lx\n", rotate(10000));
  return 0;
}
