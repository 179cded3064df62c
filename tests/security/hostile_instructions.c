// Executes in ring 3 what only ring 0 may, jumps into the supervisor, reads and writes it. Each
// attempt ends in a signal; a jump to LSTAR may instead be an ordinary system call.
#define _GNU_SOURCE
#include <sys/mman.h>

#include "contain.h"

struct attempt {
  const char* name;
  unsigned char code[16];
  int length;
};

#define ATTEMPT(name, ...) {name, {__VA_ARGS__}, sizeof((unsigned char[]){__VA_ARGS__})}

static const struct attempt kAttempts[] = {
    ATTEMPT("hlt", 0xf4), ATTEMPT("cli", 0xfa), ATTEMPT("sti", 0xfb),
    ATTEMPT("out imm8, al: trap port", 0xe6, 0xd0), ATTEMPT("out imm8: system-call port", 0xe6, 0xd1),
    ATTEMPT("out imm8: probe port", 0xe6, 0xd2), ATTEMPT("out dx, al", 0x66, 0xba, 0xd0, 0x00, 0xee),
    ATTEMPT("out dx, eax", 0x66, 0xba, 0xd1, 0x00, 0xef), ATTEMPT("in al, imm8", 0xe4, 0xd0),
    ATTEMPT("in al, dx", 0x66, 0xba, 0xd0, 0x00, 0xec),
    ATTEMPT("outsb", 0x66, 0xba, 0xd0, 0x00, 0x48, 0x8d, 0x35, 0, 0, 0, 0, 0x6e),
    ATTEMPT("rep outsb", 0x66, 0xba, 0xd0, 0x00, 0x48, 0x8d, 0x35, 0, 0, 0, 0, 0xf3, 0x6e),
    ATTEMPT("mov rax, cr0", 0x0f, 0x20, 0xc0), ATTEMPT("mov rax, cr2", 0x0f, 0x20, 0xd0),
    ATTEMPT("mov rax, cr3", 0x0f, 0x20, 0xd8), ATTEMPT("mov cr3, rax", 0x0f, 0x22, 0xd8),
    ATTEMPT("mov rax, cr4", 0x0f, 0x20, 0xe0), ATTEMPT("mov cr4, rax", 0x0f, 0x22, 0xe0),
    ATTEMPT("mov cr8, rax", 0x44, 0x0f, 0x22, 0xc0), ATTEMPT("mov rax, dr7", 0x0f, 0x21, 0xf8),
    ATTEMPT("mov dr7, rax", 0x0f, 0x23, 0xf8), ATTEMPT("rdmsr", 0x0f, 0x32),
    ATTEMPT("wrmsr lstar", 0xb9, 0x82, 0x00, 0x00, 0xc0, 0x0f, 0x30),
    ATTEMPT("lgdt [rsp]", 0x0f, 0x01, 0x14, 0x24), ATTEMPT("lidt [rsp]", 0x0f, 0x01, 0x1c, 0x24),
    ATTEMPT("lldt ax", 0x0f, 0x00, 0xd0), ATTEMPT("ltr ax", 0x0f, 0x00, 0xd8),
    ATTEMPT("lmsw ax", 0x0f, 0x01, 0xf0), ATTEMPT("clts", 0x0f, 0x06),
    ATTEMPT("invlpg [rsp]", 0x0f, 0x01, 0x3c, 0x24), ATTEMPT("invd", 0x0f, 0x08),
    ATTEMPT("wbinvd", 0x0f, 0x09), ATTEMPT("swapgs", 0x0f, 0x01, 0xf8),
    ATTEMPT("vmlaunch", 0x0f, 0x01, 0xc2), ATTEMPT("vmrun", 0x0f, 0x01, 0xd8),
    ATTEMPT("xsetbv", 0x0f, 0x01, 0xd1), ATTEMPT("clac", 0x0f, 0x01, 0xca),
    ATTEMPT("stac", 0x0f, 0x01, 0xcb), ATTEMPT("sysret", 0x48, 0x0f, 0x07),
    ATTEMPT("sysexit", 0x0f, 0x35), ATTEMPT("rsm", 0x0f, 0xaa), ATTEMPT("monitor", 0x0f, 0x01, 0xc8),
    ATTEMPT("mwait", 0x0f, 0x01, 0xc9), ATTEMPT("ud0", 0x0f, 0xff, 0xc0),
    ATTEMPT("ud1", 0x0f, 0xb9, 0xc0), ATTEMPT("ud2", 0x0f, 0x0b), ATTEMPT("int3", 0xcc),
    ATTEMPT("into", 0xce), ATTEMPT("int1", 0xf1),
    ATTEMPT("far return to ring 0", 0x6a, 0x08, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0x50, 0x48, 0xcb),
    ATTEMPT("far return to the TSS", 0x6a, 0x40, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0x50, 0x48, 0xcb),
    ATTEMPT("far return to ring 0 data", 0x6a, 0x10, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0x50, 0x48, 0xcb),
    ATTEMPT("ring 0 stack segment", 0xb8, 0x10, 0, 0, 0, 0x8e, 0xd0),
    ATTEMPT("null stack segment", 0x31, 0xc0, 0x8e, 0xd0),
    ATTEMPT("iretq to ring 0", 0x6a, 0x10, 0x54, 0x9c, 0x6a, 0x08, 0x53, 0x48, 0xcf),
    ATTEMPT("trap flag over a system call", 0x9c, 0x81, 0x0c, 0x24, 0x00, 0x01, 0x00, 0x00, 0x9d,
            0xb8, 0x27, 0x00, 0x00, 0x00, 0x0f, 0x05),
};

static unsigned char* code_page;

// Runs code that must not come back. Returns the signal, 0 when it did come back.
static int run_code(const unsigned char* code, int length) {
  memset(code_page, 0x90, 4096);
  memcpy(code_page + 256, code, (size_t)length);
  memcpy(code_page + 256 + length, (unsigned char[]){0xc3}, 1);
  const int signal_number = sigsetjmp(contain_return, 1);
  if (signal_number == 0) {
    __asm__ volatile("call *%0" : : "r"(code_page + 256) : "rax", "rbx", "rcx", "rdx", "rsi", "rdi",
                     "r8", "r9", "r10", "r11", "memory", "cc");
    return 0;
  }
  return signal_number;
}

// KVM answers a hypercall of the processor's own make itself, and refuses ring 3 with a negative number (EPERM).
static void try_hypercalls(void) {
  if (sigsetjmp(contain_return, 1) == 0) {
    for (long number = 0; number < 16; ++number) {
      long result = number;
      __asm__ volatile("vmcall" : "+a"(result) : "b"(0L), "c"(0L), "d"(0L), "S"(0L) : "memory");
      contain_check(result < 0 && result >= -4095, "vmcall was carried out", result);
    }
  }
  contain_alive("vmcall");
}

static void try_software_interrupts(void) {
  for (int vector = 0; vector < 256; ++vector) {
    const unsigned char code[] = {0xb8, 0x14, 0, 0, 0, 0xcd, (unsigned char)vector};
    const int signal_number = run_code(code, sizeof(code));
    // The emulated KVM of some hosts answers this one itself, with RAX = 0 and nothing else.
    if (vector == 0x1a && signal_number == 0) continue;
    contain_check(signal_number != 0, "int n came back", vector);
  }
  contain_alive("int n");
}

// Every byte of the image, the IDT, a vCPU's page and what follows.
static void try_supervisor_addresses(void) {
  const uint64_t arena = 0xffffff8000000000;
  for (uint64_t offset = 0; offset < 0x4000; offset += 64) {
    volatile unsigned char* address = (volatile unsigned char*)(arena + offset);
    if (sigsetjmp(contain_return, 1) == 0) {
      (void)*address;
      contain_check(0, "read the supervisor", (long)offset);
    }
    if (sigsetjmp(contain_return, 1) == 0) {
      *address = 0;
      contain_check(0, "wrote the supervisor", (long)offset);
    }
  }
  contain_alive("supervisor reads");
}

// With RAX = getppid and RCX = where to go on: at LSTAR this is as good as SYSCALL.
static void try_supervisor_jumps(void) {
  static volatile int system_calls;
  for (uint64_t offset = 0; offset < 0x1100; ++offset) {
    if (sigsetjmp(contain_return, 1) != 0) continue;
    uint64_t result = 110;
    __asm__ volatile("leaq 1f(%%rip), %%rcx\n\tmovq $0x202, %%r11\n\tjmp *%1\n1:"
                     : "+a"(result) : "r"(0xffffff8000000000 + offset) : "rcx", "r11", "memory");
    ++system_calls;
    contain_check(result == (uint64_t)getppid(), "a jump into the supervisor", (long)offset);
  }
  contain_check(system_calls <= 1, "several places act as system calls", system_calls);
  contain_alive("supervisor jumps");
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  contain_install();
  code_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (size_t i = 0; i < sizeof(kAttempts) / sizeof(kAttempts[0]); ++i) {
    const int signal_number = run_code(kAttempts[i].code, kAttempts[i].length);
    const int expected = signal_number == SIGSEGV || signal_number == SIGILL ||
                         signal_number == SIGTRAP || signal_number == SIGBUS;
    contain_check(expected, kAttempts[i].name, signal_number);
    contain_alive(kAttempts[i].name);
  }
  try_hypercalls();
  try_software_interrupts();
  try_supervisor_addresses();
  try_supervisor_jumps();
  return contain_verdict("hostile_instructions");
}
