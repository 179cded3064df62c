// Every hardware fault as a signal: number, si_code, si_addr and the registers in the frame, handled on an alternate stack.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "expect.h"

// attempt(code, rdi): known values in all other registers, then a jump to `code`. The handler continues at attempt_end.
int attempt(const void* code, const void* rdi);
extern char attempt_end[];
__asm__(
    ".text\n"
    "attempt:\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rsp, saved_rsp(%rip)\n"
    "  mov %rdi, %rax; mov %rsi, %rdi\n"
    "  mov $0x1111111122222201, %rbx; mov $0x1111111122222202, %rcx\n"
    "  mov $0, %rdx; mov $0x1111111122222204, %rsi; mov $0x1111111122222205, %rbp\n"
    "  mov $0x1111111122222206, %r8; mov $0x1111111122222207, %r9\n"
    "  mov $0x1111111122222208, %r10; mov $0x1111111122222209, %r11\n"
    "  mov $0x111111112222220a, %r12; mov $0x111111112222220b, %r13\n"
    "  mov $0x111111112222220c, %r14; mov $0x111111112222220d, %r15\n"
    "  call *%rax\n"
    "attempt_end:\n"
    "  mov saved_rsp(%rip), %rsp\n"
    "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "  mov $0, %eax\n"
    "  ret\n"
    ".local saved_rsp\n"
    ".comm saved_rsp, 8, 8\n");

static unsigned char* code;  // a writable and executable page
static char* data;           // where rdi points to
static char alternate_stack[65536];
static int file;
static sigjmp_buf escape;
static volatile int faults;

enum action { kSkip, kUnprotect, kExtendFile, kLongJump, kReturn };
static enum action next_action;

static void check_registers(const gregset_t registers) {
  static const int order[] = {REG_RBX, REG_RCX, -1, REG_RSI, REG_RBP, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  int wrong = 0;
  for (int i = 0; i < 13; ++i) {
    if (order[i] >= 0 && (uint64_t)registers[order[i]] != 0x1111111122222201u + (uint64_t)i) ++wrong;
  }
  printf("  registers %s", wrong == 0 ? "exact" : "WRONG");
}

static void print_address(const char* name, uint64_t value) {
  if (value - (uint64_t)code < 8192) {
    printf(" %s=code+0x%lx", name, (unsigned long)(value - (uint64_t)code));
  } else if (value - (uint64_t)data < 65536) {
    printf(" %s=data+0x%lx", name, (unsigned long)(value - (uint64_t)data));
  } else {
    printf(" %s=0x%lx", name, (unsigned long)value);
  }
}

static void on_fault(int signal, siginfo_t* info, void* opaque) {
  // EFLAGS.AC stays set on entry to a handler.
  __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
  ucontext_t* context = opaque;
  greg_t* registers = context->uc_mcontext.gregs;
  EXPECT(++faults < 1000);  // one that comes back for ever
  EXPECT(info->si_signo == signal);
  const char* here = (const char*)&registers;
  EXPECT(here > alternate_stack && here < alternate_stack + sizeof(alternate_stack));
  printf("  signal %d code %d", signal, info->si_code);
  print_address("addr", (uint64_t)info->si_addr);
  print_address("rip", (uint64_t)registers[REG_RIP]);
  if (registers[REG_TRAPNO] == 14) print_address("cr2", (uint64_t)registers[REG_CR2]);
  // Without bit 0, which tells whether the kernel had a page there already.
  printf(" trap %lld error %lld cs %x", registers[REG_TRAPNO], registers[REG_ERR] & ~1LL, (unsigned)registers[REG_CSGSFS] & 0xffff);
  printf(" ss %x", (unsigned)((uint64_t)registers[REG_CSGSFS] >> 48));
  check_registers(registers);
  printf("\n");
  switch (next_action) {
    case kSkip:
      registers[REG_RIP] = (greg_t)attempt_end;
      registers[REG_EFL] &= ~0x40100;
      break;
    case kUnprotect:
      EXPECT(mprotect(data, 4096, PROT_READ | PROT_WRITE) == 0);
      break;
    case kExtendFile:
      EXPECT(ftruncate(file, 8192) == 0);
      break;
    case kLongJump:
      siglongjmp(escape, 1);
    case kReturn:
      break;
  }
}

static void put(const char* bytes, size_t length) {
  memcpy(code, bytes, length);
  code[length] = 0xc3;
}

#define TRY(name, bytes, rdi)                       \
  do {                                              \
    printf("%s\n", name);                           \
    put(bytes, sizeof(bytes) - 1);                  \
    const int before = faults;                      \
    attempt(code, (const void*)(uintptr_t)(rdi));   \
    printf("  faults: %d\n", faults - before);      \
  } while (0)

#define READ "\x8b\x07"        // mov (%rdi), %eax
#define WRITE "\xc6\x07\x2a"   // movb $42, (%rdi)

static void memory_faults(void) {
  TRY("read of page 0", READ, 0x10);
  TRY("write to page 0", WRITE, 0x18);
  data = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(data != MAP_FAILED);
  memset(data, 0xc3, 65536);
  EXPECT(mprotect(data, 65536, PROT_READ) == 0);
  TRY("write to a read-only page", WRITE, data + 0x123);
  TRY("execution of a page that is not executable", "\xff\xe7", data + 0x45);
  EXPECT(mprotect(data + 16384, 4096, PROT_NONE) == 0);
  TRY("read of a PROT_NONE page", READ, data + 16384);
  TRY("write to a PROT_NONE page", WRITE, data + 16384 + 1);
  EXPECT(munmap(data + 8192, 4096) == 0);
  TRY("read of an unmapped page", READ, data + 8192 + 7);
  TRY("read across into an unmapped page", READ, data + 8192 - 2);
  TRY("jump to an unmapped page", "\xff\xe7", data + 8192 + 5);
  TRY("read of a non-canonical address", READ, 0x0800000000000000);
  TRY("read of the first non-canonical address", READ, 0x800000000000);
  TRY("read of a kernel address", READ, 0xffffffff81000000);
  TRY("jump to a kernel address", "\xff\xe7", 0xffffffff81000000);
  TRY("push below an unmapped stack", "\x48\x89\xfc\x50", data + 8192 + 4096);  // mov %rdi, %rsp; push %rax
  TRY("string move from an unmapped page", "\x48\x89\xfe\xa4", data + 8192);    // mov %rdi, %rsi; movsb
  printf("repaired: ");
  next_action = kUnprotect;
  TRY("write to a read-only page", WRITE, data + 0x100);
  next_action = kSkip;
  printf("  now there: %d\n", data[0x100]);
}

static void file_fault(void) {
  file = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
  EXPECT(file >= 0 && ftruncate(file, 8192) == 0);
  char* old = data;
  data = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  EXPECT(data != MAP_FAILED);
  data[4096] = 9;
  EXPECT(ftruncate(file, 4096) == 0);
  TRY("read past the end of a mapped file", READ, data + 4096 + 3);
  TRY("write past the end of a mapped file", WRITE, data + 4096 + 4);
  next_action = kExtendFile;
  TRY("write past the end, the handler extends the file", WRITE, data + 4096 + 5);
  next_action = kSkip;
  printf("  now there: %d %d\n", data[4096], data[4096 + 5]);
  EXPECT(munmap(data, 8192) == 0 && close(file) == 0);
  data = old;
}

static void arithmetic_faults(void) {
  TRY("integer division by zero", "\x31\xc0\xf7\xf2", 0);  // xor %eax, %eax; div %edx
  unsigned control;
  unsigned masks = 0x1f80;
  __asm__ volatile("stmxcsr %0" : "=m"(control));
  static const float numbers[4] = {1, 0, 3e38f, -1};
#define SSE(name, unmasked, bytes)                    \
  masks = 0x1f80 & ~(unmasked);                       \
  __asm__ volatile("ldmxcsr %0" ::"m"(masks));        \
  TRY(name, bytes, numbers);                          \
  __asm__ volatile("ldmxcsr %0" ::"m"(control))
  SSE("SSE division by zero", 0x200, "\xf3\x0f\x10\x07\xf3\x0f\x5e\x47\x04");   // movss 0(%rdi), %xmm0; divss 4(%rdi), %xmm0
  SSE("SSE invalid operation", 0x080, "\xf3\x0f\x51\x47\x0c");                   // sqrtss 12(%rdi), %xmm0
  SSE("SSE overflow", 0x400, "\xf3\x0f\x10\x47\x08\xf3\x0f\x59\x47\x08");       // movss, mulss 8(%rdi)
  SSE("SSE inexact", 0x1000, "\xf3\x0f\x10\x07\xf3\x0f\x5e\x47\x08");           // 1 / 3e38
  unsigned short all = 0x37f, word;
#define X87(name, unmasked, bytes)                    \
  word = (unsigned short)(0x37f & ~(unmasked));       \
  __asm__ volatile("fninit; fldcw %0" ::"m"(word));   \
  TRY(name, bytes, numbers);                          \
  __asm__ volatile("fninit; fldcw %0" ::"m"(all))
  X87("x87 division by zero", 4, "\xd9\xe8\xd9\xee\xde\xf9\x9b");  // fld1; fldz; fdivp; fwait
  X87("x87 invalid operation", 1, "\xd9\xe8\xd9\xe0\xd9\xfa\x9b");  // fld1; fchs; fsqrt; fwait
  X87("x87 stack underflow", 1, "\xde\xc1\x9b");                    // faddp; fwait
}

static void other_faults(void) {
  TRY("ud2", "\x90\x0f\x0b", 0);
  TRY("privileged instruction", "\x90\xf4", 0);
  TRY("breakpoint", "\x90\xcc\x90", 0);
  next_action = kReturn;
  TRY("breakpoint, the handler returns", "\x90\xcc\x90", 0);
  next_action = kSkip;
  // pushf; orl $0x40000, (%rsp); popf; mov 1(%rdi), %eax
  TRY("misaligned read with AC set", "\x9c\x81\x0c\x24\x00\x00\x04\x00\x9d\x8b\x47\x01", data);
  next_action = kReturn;
  // pushf; orl $0x100, (%rsp); popf; nop; nop; pushf; andl $~0x100, (%rsp); popf; nop
  TRY("single steps", "\x9c\x81\x0c\x24\x00\x01\x00\x00\x9d\x90\x90\x9c\x81\x24\x24\xff\xfe\xff\xff\x9d\x90", 0);
  next_action = kSkip;
}

// A gate that a program may go through is a trap; every other one is a fault of the instruction.
static void software_interrupts(void) {
  next_action = kReturn;
  TRY("int 3 in two bytes", "\x90\xcd\x03\x90", 0);
  TRY("int 4", "\x90\xcd\x04\x90", 0);
  next_action = kSkip;
  TRY("int 1", "\x90\xcd\x01\x90", 0);
  TRY("int 13", "\x90\xcd\x0d\x90", 0);
  TRY("int 255", "\x90\xcd\xff\x90", 0);
}

int main(int argc, char** argv) {
  stack_t stack = {.ss_sp = alternate_stack, .ss_size = sizeof(alternate_stack)};
  EXPECT(sigaltstack(&stack, NULL) == 0);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  for (int i = 0; i < 5; ++i) EXPECT(sigaction(signals[i], &action, NULL) == 0);
  code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(code != MAP_FAILED);
  if (argc > 1 && strcmp(argv[1], "interrupts") == 0) {
    software_interrupts();
    return 0;
  }
  memory_faults();
  file_fault();
  arithmetic_faults();
  other_faults();
  next_action = kLongJump;
  for (int i = 0; i < 3; ++i) {
    if (sigsetjmp(escape, 1) == 0) TRY("siglongjmp out", READ, 0x10);
  }
  stack_t now;
  EXPECT(sigaltstack(NULL, &now) == 0);
  printf("alternate stack flags %d\n", now.ss_flags);
  return 0;
}
