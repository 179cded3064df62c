// The kit of the assembly programs: no libc, no relocation, every address fixed when the program is linked. So the values of all
// registers, the stack pointer and return addresses among them, are the same in every run and can be printed.
//
// A program is a .S file of cases (cases.inc) linked with bare.c and run_case.S. It runs all cases, or those named as arguments, or all
// without those named with a minus sign before, and prints for each what it changed:
//
//   loop_two_rounds: rcx=0 r8=2 flags=246 stack=5a0c...
//
// A fault prints its signal, address, RIP and registers, then ends the case or does what the case's own handler says.
#ifndef DUNEBOX_TESTS_DIFFERENTIAL_TRANSLATION_BARE_H_
#define DUNEBOX_TESTS_DIFFERENTIAL_TRANSLATION_BARE_H_

#include <stddef.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <ucontext.h>

#pragma GCC visibility push(hidden)

enum outcome { kEndCase, kContinue };
// What a case does about a fault; it may change the registers.
typedef enum outcome (*fault_handler)(int signal, greg_t* registers);

struct bare_case {
  const char* name;
  const char* body;
  fault_handler on_fault;
};

// In the order of the general registers' numbers: rax rcx rdx rbx rsp rbp rsi rdi r8 ... r15.
struct register_set {
  uint64_t general[16];
  uint64_t flags;
};

enum { kArenaSize = 4096, kTestStackSize = 8 << 20 };
extern unsigned char arena[kArenaSize];            // what cases read and write; the same at the start of each
extern unsigned char test_stack[kTestStackSize];   // cases run on it
extern struct register_set initial_registers, final_registers;
extern unsigned char initial_vectors[256], final_fxsave[512];

void run_case(const void* body);
extern char case_done[];  // where a case returns to
void return_from_signal(void);

long system_call(long number, long a, long b, long c, long d, long e, long f);
void* memset(void* at, int value, size_t length);
void print(const char* text);
void print_hex(uint64_t value);
void print_decimal(uint64_t value);
void flush(void);
_Noreturn void fail(const char* why);
_Noreturn void skip(const char* why);

// A program may define it: mappings its cases need, before the first one.
void set_up(void);

#pragma GCC visibility pop

#endif  // DUNEBOX_TESTS_DIFFERENTIAL_TRANSLATION_BARE_H_
