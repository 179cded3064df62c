// A program without a C library, and, unless WITH_MAIN, without a main: it says itself when it is ready. What it does
// wrong is in the environment: MODE=x.
#include "sandbox/plugin/guest/gates.h"

static char mode;
static int begun;
static volatile int* volatile nowhere = (volatile int*)8;

// ---- what there is to call

int add(int a, int b) { return a + b; }
int has_begun(void) { return begun; }
long own_mode(void) { return mode; }
static int only_here(int value) { return value; }
int (*const kept)(int) = only_here;

// ---- threads

static long call(long number, long a, long b, long c) {
  long result;
  register long d __asm__("r10") = 0;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(d) : "rcx", "r11", "memory");
  return result;
}

static char stacks[4][4096] __attribute__((aligned(16)));
static int made;

// As of pthread_create, of a library whose threads have no storage of their own.
static int make_thread(void (*run)(void*)) {
  const long flags = 0x00000100 | 0x00000200 | 0x00000400 | 0x00000800 | 0x00010000;
  char* const top = stacks[made++ % 4] + sizeof(stacks[0]);
  void (**const slot)(void*) = (void (**)(void*))(void*)(top - 8);
  *slot = run;
  long result;
  __asm__ volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "popq %%rax\n\t"
      "xorl %%edi, %%edi\n\t"
      "callq *%%rax\n"
      "1:"
      : "=a"(result)
      : "a"(56L), "D"(flags), "S"(slot), "d"(0L)
      : "rcx", "r11", "memory");
  return result < 0 ? (int)-result : 0;
}

static void spin(void* unused) {
  (void)unused;
  for (;;) {
  }
}

int pthread_create(unsigned long* id, const void* attributes, void (*run)(void*), void* argument) {
  (void)attributes;
  (void)argument;
  *id = 1;
  switch (mode) {
    case 'n':  // none, and says so of none
      return 0;
    case 'e':
      return 11;
    case 'b':  // one, and asks the host for something before
      call(DUNEBOX_GATE_CALLBACK, 1, 0, 0);
      return make_thread(run);
    case 'l':
      spin(0);
      return 0;
    case 'p':  // one that does not park
      return make_thread(spin);
    case '3':  // more than one
      make_thread(run);
      make_thread(run);
      return make_thread(run);
    case 'c':  // a crash behind it
      make_thread(run);
      *nowhere = 1;
      return 0;
    default:
      return make_thread(run);
  }
}

// ---- beginning

__attribute__((used)) static void begin(const long* stack) {
  const long arguments = stack[0];
  const char* const* variable = (const char* const*)(stack + 1 + arguments + 1);
  for (; *variable != 0; ++variable) {
    const char* const text = *variable;
    if (text[0] == 'M' && text[1] == 'O' && text[2] == 'D' && text[3] == 'E' && text[4] == '=') mode = text[5];
  }
  begun = 1;
  if (mode == 's') spin(0);
  if (mode == 'x') call(231, 3, 0, 0);
  if (mode == 'f') *nowhere = 1;
}

#ifdef WITH_MAIN
int main(void) { return 0; }
#define END "callq main\n\tmovl %eax, %edi\n\tmovl $60, %eax\n\tsyscall\n\tud2"
#else
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define END "movl $" TEXT(DUNEBOX_GATE_READY) ", %eax\n\tsyscall\n\tud2"
#endif
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n\t"
    "movq %rsp, %rdi\n\t"
    "andq $-16, %rsp\n\t"
    "callq begin\n\t" END
    "\n.size _start, . - _start\n");
