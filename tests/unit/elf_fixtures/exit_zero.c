// The smallest program with all kinds of segment: code, constants, data, bss.
// It needs no libc, so every linker and every layout option can produce it.
static const char text[] = "constant";
static int initialised = 1;
static int zeroed[3000];

void _start(void) {
  __asm__ volatile("" ::"r"(text), "r"(&initialised), "r"(zeroed) : "memory");
  const long status = initialised - 1 + zeroed[2999];
  __asm__ volatile("syscall" ::"a"(231L), "D"(status));
  __builtin_unreachable();
}
