// What the cases of faults.S have done about their faults, and the pages they fault on.
#include <asm/unistd.h>
#include <sys/mman.h>

#include "bare.h"

#define HANDLER __attribute__((visibility("hidden"))) enum outcome

static const uint64_t kUnmapped = 0x300000010000;
static unsigned steps;

void set_up(void) {
  const long before = (long)kUnmapped - 4096;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  if (system_call(__NR_mmap, before, 4096, PROT_READ | PROT_WRITE, flags, -1, 0) != before) fail("mmap");
}

HANDLER repair_rdi(int signal, greg_t* registers) {
  (void)signal;
  registers[REG_RDI] = (greg_t)arena;
  return kContinue;
}

// All but rsp; the instruction has four bytes, or eight where it names an absolute address.
HANDLER change_all_registers(int signal, greg_t* registers) {
  if (signal != SIGSEGV) return kEndCase;
  static const int all[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_R8,
                            REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  const unsigned char* instruction = (const unsigned char*)registers[REG_RIP];
  for (int i = 0; i < 15; ++i) registers[all[i]] = 0x7700000000000000 + i;
  registers[REG_EFL] = (registers[REG_EFL] & ~0x8d5) | 0x881;
  registers[REG_RIP] += instruction[2] == 0x04 ? 8 : 4;
  return kContinue;
}

__asm__(
    ".text\n"
    "landing:\n"
    "  lea 5(%rax), %rbx\n"
    "  ret\n");
extern char landing[] __attribute__((visibility("hidden")));

HANDLER go_to_landing(int signal, greg_t* registers) {
  (void)signal;
  registers[REG_RIP] = (greg_t)landing;
  return kContinue;
}

HANDLER go_on(int signal, greg_t* registers) {
  (void)signal, (void)registers;
  return kContinue;
}

HANDLER pop_to_caller(int signal, greg_t* registers) {
  if (signal != SIGSEGV || (uint64_t)registers[REG_RIP] != (uint64_t)registers[REG_RAX]) return kEndCase;
  registers[REG_RIP] = *(const greg_t*)registers[REG_RSP];
  registers[REG_RSP] += 8;
  return kContinue;
}

HANDLER skip_four_bytes(int signal, greg_t* registers) {
  if (signal != SIGSEGV) return kEndCase;
  registers[REG_RDX] = registers[REG_RAX] & 0xff;
  registers[REG_RIP] += 4;
  return kContinue;
}

HANDLER skip_two_bytes(int signal, greg_t* registers) {
  if (signal != SIGILL) return kEndCase;
  registers[REG_RIP] += 2;
  return kContinue;
}

HANDLER count_steps(int signal, greg_t* registers) {
  (void)registers;
  return signal == SIGTRAP && ++steps < 1000 ? kContinue : kEndCase;
}

// Steps three times, then switches the trap flag off again.
HANDLER start_stepping(int signal, greg_t* registers) {
  static int stepped;
  if (signal == SIGSEGV) {
    registers[REG_RIP] += 4;
    registers[REG_EFL] |= 0x100;
    return kContinue;
  }
  if (++stepped == 3) registers[REG_EFL] &= ~0x100;
  return kContinue;
}
