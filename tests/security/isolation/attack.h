// What the attacking programs share. Each is one program with many named cases:
//
//   memory_attacks CASE
//
// It cannot see where the runtime lies; `run`, which drives it, can. The protocol, line by line:
//
//   program: ready                         threads of the case are running
//   driver:  isolation NAME
//   driver:  place NAME READ WRITE START END (hexadecimal) ... go
//   program: completed ATTACK PLACE        an access was made that should have raised a signal
//   program: loot ATTACK PLACE ADDRESS BYTES VALUE    what it read there; the driver knows better
//   program: breach TEXT                   anything else that must not be
//   program: note TEXT
//   program: over                          the driver looks whether the runtime's memory is as it
//   was driver:  end program: CASE: contained
#ifndef DUNEBOX_TESTS_SECURITY_ISOLATION_ATTACK_H_
#define DUNEBOX_TESTS_SECURITY_ISOLATION_ATTACK_H_

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint64_t u64;

// A kind of the runtime's memory. At `read` there is something worth stealing; at `write` is room
// that the runtime does not use just now: 1 KiB below it and 3 KiB from it, all zeros. 0: none.
struct place {
  char name[32];
  u64 read, write, start, end;
};
extern struct place places[64];
extern int place_count;
extern char isolation[32];

struct attack_case {
  const char* name;
  void (*run)(void);
  void (*prepare)(void);  // before the driver looks; may be null
};
extern const struct attack_case attack_cases[];  // ends with a null name

// Lines to the driver.
void say(const char* format, ...) __attribute__((format(printf, 1, 2)));
void breach(const char* format, ...) __attribute__((format(printf, 1, 2)));
void note(const char* format, ...) __attribute__((format(printf, 1, 2)));

// What the last attempt ended with.
struct caught {
  int signal;  // 0: it came back
  int code;
  u64 address, rip, rsp;
};
extern volatile struct caught caught;

// Runs it where signals of the processor's are caught, on a stack of their own and whatever FS
// base it leaves. Returns the signal.
int attempt(void (*code)(u64), u64 target);

// A processor has refused something.
int is_refusal(int signal_number);

// The same, in a child process, for what a program may not survive. Returns waitpid's status.
int attempt_in_child(void (*code)(u64), u64 target);

// A system call by its register: negative is an error.
long raw_call(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
#define CALL1(n, a) raw_call(n, (u64)(a), 0, 0, 0, 0, 0)
#define CALL2(n, a, b) raw_call(n, (u64)(a), (u64)(b), 0, 0, 0, 0)
#define CALL3(n, a, b, c) raw_call(n, (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)
#define CALL4(n, a, b, c, d) raw_call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0, 0)
#define CALL5(n, a, b, c, d, e) raw_call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), 0)
#define CALL6(n, a, b, c, d, e, f) \
  raw_call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))

// Under `seg` an address is cut to the window: what is meant for the runtime lands in the program's
// own memory, or nowhere.
int addresses_are_cut(void);

// A place by name, or null.
const struct place* find_place(const char* name);
// Where the user half ends: everything above is the runtime's.
#define USER_HALF_END 0x400000000000UL

// ---- attacks as rows of instructions
// ---------------------------------------------------------------

// What CPUID has to offer. ANY_CPU also for what a processor can do that CPUID hides, as hypervisors have it: it is tried, and #UD
// is noted.
enum needs {
  ANY_CPU,
  NEEDS_AVX,
  NEEDS_AVX2,
  NEEDS_AVX512F,
  NEEDS_AVX512BW,
  NEEDS_AVX512DQ,
  NEEDS_F16C,
  NEEDS_MOVBE,
  NEEDS_CX16,
  NEEDS_XSAVEC,
  NEEDS_PKU,
};
int cpu_has(enum needs needs);

enum access {
  STORES,      // at the place's `write`
  LOADS,       // at the place's `read`; what it gets is in RAX
  LOADS_ROOM,  // the same, where the instruction takes only certain contents: zeros
  TOUCHES,     // reads at `read`, and what it gets cannot be told
  JUMPS,       // reads a code address at `read` and goes there
};
struct row {
  const char* name;
  enum needs needs;
  enum access access;
  int bytes;  // of loads
  void (*code)(u64);
};

// Tries every row at every place.
void run_rows(const struct row* rows, size_t count);
#define RUN_ROWS(rows) run_rows(rows, sizeof(rows) / sizeof((rows)[0]))

extern u64 attack_saved_rsp, attack_saved_rbp, attack_loot;
extern unsigned char attack_scratch[16384];
extern u64 attack_fs_base;

// A function that executes `text` with RDI = where to attack, RSI = memory of the program's, RAX
// and XMM0 = bytes that are not zero, RBX = RCX = RDX = 0. It may leave RSP and RBP anywhere.
#define ATTACK_CODE(function, text)                                                            \
  static void __attribute__((noinline)) function(u64 target) {                                 \
    u64 scratch = (u64)(attack_scratch + 4096), pattern = 0xa5a5a5a5a5a5a5a5;                  \
    __asm__ volatile(                                                                          \
        "movq %%rsp, attack_saved_rsp(%%rip)\n\tmovq %%rbp, attack_saved_rbp(%%rip)\n\t"       \
        "movq %%rax, %%xmm0\n\tpunpcklqdq %%xmm0, %%xmm0\n\t"                                  \
        "xorl %%ebx, %%ebx\n\txorl %%ecx, %%ecx\n\txorl %%edx, %%edx\n\t" text                 \
        "\n\tmovq attack_saved_rsp(%%rip), %%rsp\n\tmovq attack_saved_rbp(%%rip), %%rbp\n\t"   \
        "movq %%rax, attack_loot(%%rip)\n\tcld"                                                \
        : "+D"(target), "+S"(scratch), "+a"(pattern)                                           \
        :                                                                                      \
        : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", \
          "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4");                                       \
  }

#endif  // DUNEBOX_TESTS_SECURITY_ISOLATION_ATTACK_H_
