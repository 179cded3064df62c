// A program that single-steps itself: as many traps each time the same code is run, jumps of all
// kinds included.
#include <signal.h>
#include <stdio.h>

static volatile int traps;

static void on_trap(int signal_number) {
  (void)signal_number;
  ++traps;
}

static int step_through(void) {
  int rounds = 0;
  traps = 0;
  __asm__ volatile(
      "lea -128(%%rsp), %%rsp\n"
      "pushfq\n"
      "orq $0x100, (%%rsp)\n"
      "popfq\n"
      "mov $3, %%ecx\n"
      "1: inc %0\n"
      "jmp 2f\n"
      "nop\n"
      "2: dec %%ecx\n"
      "jnz 1b\n"
      "lea 3f(%%rip), %%rdx\n"
      "jmp *%%rdx\n"
      "nop\n"
      "3: pushfq\n"
      "andq $~0x100, (%%rsp)\n"
      "popfq\n"
      "lea 128(%%rsp), %%rsp\n"
      : "+r"(rounds)::"rcx", "rdx", "memory", "cc");
  return rounds;
}

int main(void) {
  signal(SIGTRAP, on_trap);
  for (int i = 0; i < 4; ++i) {
    const int rounds = step_through();
    printf("%d rounds, %d traps\n", rounds, traps);
  }
  return 0;
}
