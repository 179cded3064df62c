// long double loops on the x87 stack, the rounding modes and precisions of both units, the exception flags, and what a signal handler
// or a system call may not change. With the argument `handler`: what a handler begins with.
#include <fenv.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "../expect.h"

static void print_long_double(const char* name, long double value) {
  uint64_t parts[2] = {0, 0};
  memcpy(parts, &value, 10);
  printf("%s: %04lx %016lx\n", name, parts[1] & 0xffff, parts[0]);
}

__attribute__((noinline)) static long double series(int terms) {
  long double sum = 0, sign = 1;
  for (int i = 0; i < terms; ++i) {
    sum += sign / (2 * i + 1);
    sign = -sign;
  }
  return 4 * sum;
}

__attribute__((noinline)) static long double deep(int depth, long double value) {
  return depth == 0 ? sqrtl(value) : deep(depth - 1, value * 1.0001L + 1) + value / (depth + 1);
}

static volatile double one = 1, three = 3, minus = -7.5, tiny = 1e-308;

static void rounding(void) {
  static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
  for (int i = 0; i < 4; ++i) {
    EXPECT(fesetround(modes[i]) == 0);
    double quotient = one / three, root = sqrt(three);
    uint64_t bits[2];
    memcpy(bits, &quotient, 8), memcpy(bits + 1, &root, 8);
    const long double wide = (long double)one / three;
    getppid();
    EXPECT(fegetround() == modes[i]);
    printf("mode %d: %lx %lx %ld %ld", i, bits[0], bits[1], lrint(minus), lrint(one / three * 10));
    print_long_double(" wide", wide);
  }
  fesetround(FE_TONEAREST);
}

static void precision(void) {
  static const uint16_t words[] = {0x37f, 0x27f, 0x07f};
  for (int i = 0; i < 3; ++i) {
    long double result;
    const uint16_t usual = 0x37f;
    __asm__ volatile("fldcw %[word]\n fldpi\n fld1\n fdivp\n fstpt %[result]\n fldcw %[usual]\n"
                     : [result] "=m"(result)
                     : [word] "m"(words[i]), [usual] "m"(usual));
    print_long_double("precision", result);
  }
}

static void exception_flags(void) {
  volatile double result;
  feclearexcept(FE_ALL_EXCEPT);
  result = one / three;
  printf("flags %x", fetestexcept(FE_ALL_EXCEPT));
  feclearexcept(FE_ALL_EXCEPT);
  result = one / (one - one);
  printf(" %x", fetestexcept(FE_ALL_EXCEPT));
  feclearexcept(FE_ALL_EXCEPT);
  result = tiny * tiny;
  getppid();
  printf(" %x\n", fetestexcept(FE_ALL_EXCEPT));
  feclearexcept(FE_ALL_EXCEPT);
  (void)result;
}

static volatile int handled;

static void on_signal(int signal) {
  (void)signal;
  // A handler begins with the usual control words, and what it leaves behind is forgotten.
  uint32_t mxcsr;
  uint16_t control;
  __asm__ volatile("stmxcsr %0\n fnstcw %1" : "=m"(mxcsr), "=m"(control));
  handled += (mxcsr & 0x6000) == 0x6000 ? 1 : 1000;
  handled += control == 0x37f ? 10000 : 0;
  fesetround(FE_UPWARD);
  __asm__ volatile("fninit\n fld1\n fld1\n fld1");
}

static void over_signals(void) {
  EXPECT(signal(SIGUSR1, on_signal) != SIG_ERR);
  EXPECT(fesetround(FE_TOWARDZERO) == 0);
  long double sum = 0;
  for (int i = 1; i <= 100; ++i) {
    sum += 1.0L / i;
    raise(SIGUSR1);
    EXPECT(fegetround() == FE_TOWARDZERO);
  }
  fesetround(FE_TONEAREST);
  print_long_double("over signals", sum);
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "handler") == 0) {
    over_signals();
    printf("handlers saw %d\n", handled);
    return 0;
  }
  print_long_double("series", series(200000));
  print_long_double("deep", deep(200, 2));
  print_long_double("functions", sinl(1.5L) + expl(0.7L) + logl(5) + powl(1.1L, 30) + fmodl(1e18L, 7.3L));
  rounding();
  precision();
  exception_flags();
  over_signals();
  printf("%.20Lg %La\n", 1.0L / 3, deep(5, 1));
  return 0;
}
