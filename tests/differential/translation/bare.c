#include "bare.h"

#include <asm/unistd.h>

unsigned char arena[kArenaSize] __attribute__((aligned(4096)));
unsigned char test_stack[kTestStackSize] __attribute__((aligned(4096)));
struct register_set initial_registers, final_registers;
unsigned char initial_vectors[256] __attribute__((aligned(64)));
unsigned char final_fxsave[512] __attribute__((aligned(64)));
extern const struct bare_case __start_cases[] __attribute__((visibility("hidden")));
extern const struct bare_case __stop_cases[] __attribute__((visibility("hidden")));

__attribute__((weak)) void set_up(void) {}

static const struct bare_case* current;
static char output[8192];
static size_t used;
static unsigned char signal_stack[65536] __attribute__((aligned(64)));
static const char* const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

long system_call(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

// The compiler may call these.
void* memcpy(void* to, const void* from, size_t length) {
  void* start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length)::"memory");
  return start;
}

void* memset(void* at, int value, size_t length) {
  void* start = at;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(length) : "a"(value) : "memory");
  return start;
}

void flush(void) {
  for (size_t done = 0; done < used;) {
    const long written = system_call(__NR_write, 1, (long)(output + done), (long)(used - done), 0, 0, 0);
    if (written <= 0) break;
    done += (size_t)written;
  }
  used = 0;
}

void print(const char* text) {
  for (; *text != '\0'; ++text) {
    if (used == sizeof(output)) flush();
    output[used++] = *text;
  }
}

void print_hex(uint64_t value) {
  char digits[17];
  char* at = digits + 16;
  *at = '\0';
  do *--at = "0123456789abcdef"[value & 15];
  while ((value >>= 4) != 0);
  print(at);
}

void print_decimal(uint64_t value) {
  char digits[21];
  char* at = digits + 20;
  *at = '\0';
  do *--at = (char)('0' + value % 10);
  while ((value /= 10) != 0);
  print(at);
}

_Noreturn void fail(const char* why) {
  print("not so: ");
  print(why);
  print("\n");
  flush();
  for (;;) system_call(__NR_exit_group, 1, 0, 0, 0, 0, 0);
}

_Noreturn void skip(const char* why) {
  print("skip: ");
  print(why);
  print("\n");
  flush();
  for (;;) system_call(__NR_exit_group, 77, 0, 0, 0, 0, 0);
}

static int same(const char* a, const char* b) {
  for (; *a != '\0' && *a == *b; ++a, ++b) {
  }
  return *a == *b;
}

static uint64_t hash_of(const void* memory, size_t length) {
  const uint64_t* words = memory;
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < length / 8; ++i) hash = ((hash ^ words[i]) * 0x100000001b3) ^ (hash >> 29);
  return hash;
}

static void print_value(const char* name, uint64_t value) {
  print(" ");
  print(name);
  print("=");
  print_hex(value);
}

// As an offset into what is known, so that a difference can be read.
static void print_place(const char* name, uint64_t value) {
  print(" ");
  print(name);
  print("=");
  if (current != NULL && value - (uint64_t)current->body < 4096) {
    print("case+");
    value -= (uint64_t)current->body;
  } else if (value - (uint64_t)arena < sizeof(arena)) {
    print("arena+");
    value -= (uint64_t)arena;
  } else if (value - (uint64_t)test_stack <= sizeof(test_stack)) {
    print("stack_top-");
    value = (uint64_t)test_stack + sizeof(test_stack) - value;
  }
  print_hex(value);
}

static void print_registers(const struct register_set* now) {
  for (int i = 0; i < 16; ++i) {
    if (now->general[i] == initial_registers.general[i]) continue;
    // Code that reads a stack pointer that is none may see another: a known limit.
    const int is_any = i == 4 && now->general[i] >> 47 != 0;
    print_place(names[i], is_any ? 1ull << 63 : now->general[i]);
  }
  print_value("flags", now->flags);
}

static const int frame_order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void on_signal(int signal, const siginfo_t* info, void* opaque) {
  greg_t* const registers = ((ucontext_t*)opaque)->uc_mcontext.gregs;
  // EFLAGS.AC stays set on entry to a handler.
  __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
  struct register_set frame;
  for (int i = 0; i < 16; ++i) frame.general[i] = (uint64_t)registers[frame_order[i]];
  // Without RF, which is the business of the processor and the kernel.
  frame.flags = (uint64_t)registers[REG_EFL] & ~UINT64_C(0x10000);
  print(current->name);
  print(": signal ");
  print_decimal((uint64_t)signal);
  print(" code ");
  print_hex((uint32_t)info->si_code);
  print_place("rip", (uint64_t)registers[REG_RIP]);
  print_place("address", (uint64_t)info->si_addr);
  print_value("trap", (uint64_t)registers[REG_TRAPNO]);
  // Bit 0 tells whether the kernel had a page there already.
  print_value("error", (uint64_t)registers[REG_ERR] & ~UINT64_C(1));
  print_registers(&frame);
  print("\n");
  flush();
  if (current->on_fault != NULL && current->on_fault(signal, registers) == kContinue) return;
  registers[REG_RIP] = (greg_t)case_done;
  registers[REG_EFL] &= ~0x40100;
}

static void install_handlers(void) {
  const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
  if (system_call(__NR_sigaltstack, (long)&stack, 0, 0, 0, 0, 0) != 0) fail("sigaltstack");
  // struct kernel_sigaction: SA_SIGINFO | SA_ONSTACK | SA_RESTORER | SA_NODEFER.
  const struct {
    void (*handler)(int, const siginfo_t*, void*);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
  } action = {on_signal, 0x4c000004, return_from_signal, 0};
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); ++i) {
    if (system_call(__NR_rt_sigaction, signals[i], (long)&action, 0, 8, 0, 0) != 0) fail("rt_sigaction");
  }
}

// Of the test stack only what lies near its top: a case that goes deep leaves nothing else that matters.
enum { kStackWindow = 2048 };
static unsigned char* const stack_window = test_stack + kTestStackSize - kStackWindow;

static void fill(void* memory, size_t length, uint64_t seed) {
  uint64_t* words = memory;
  for (size_t i = 0; i < length / 8; ++i) words[i] = seed = seed * 6364136223846793005u + 1442695040888963407u;
}

static void run(const struct bare_case* item) {
  current = item;
  for (int i = 0; i < 16; ++i) initial_registers.general[i] = 0x1111111100000000u * (uint64_t)(i % 8) + 0x40000u + (uint64_t)i;
  initial_registers.general[4] = (uint64_t)test_stack + kTestStackSize - 256;
  fill(arena, sizeof(arena), 1);
  fill(stack_window, kStackWindow, 2);
  fill(initial_vectors, sizeof(initial_vectors), 3);
  const uint64_t arena_before = hash_of(arena, sizeof(arena));
  run_case(item->body);
  print(item->name);
  print(":");
  print_registers(&final_registers);
  if (hash_of(arena, sizeof(arena)) != arena_before) print_value("arena", hash_of(arena, sizeof(arena)));
  print_value("stack", hash_of(stack_window, kStackWindow));
  if (hash_of(final_fxsave + 160, 256) != hash_of(initial_vectors, 256)) print_value("xmm", hash_of(final_fxsave + 160, 256));
  // The x87 registers with control, status and tags, without the addresses and opcode of the last x87 instruction.
  memset(final_fxsave + 6, 0, 18);
  print_value("x87", hash_of(final_fxsave, 160));
  print("\n");
  flush();
}

_Noreturn __attribute__((visibility("hidden"), used)) void bare_main(const long* words) {
  const long count = words[0];
  install_handlers();
  set_up();
  for (const struct bare_case* item = __start_cases; item != __stop_cases; ++item) {
    int wanted = count <= 1 || *(const char*)words[2] == '-';
    for (long i = 1; i < count; ++i) {
      const char* word = (const char*)words[1 + i];
      if (*word == '-' ? same(item->name, word + 1) : same(item->name, word)) wanted = *word != '-';
    }
    if (wanted) run(item);
  }
  print("end\n");
  flush();
  for (;;) system_call(__NR_exit_group, 0, 0, 0, 0, 0, 0);
}
