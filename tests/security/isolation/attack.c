#include "attack.h"

#include <cpuid.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <ucontext.h>

struct place places[64];
int place_count;
char isolation[32];
volatile struct caught caught;

u64 attack_saved_rsp, attack_saved_rbp, attack_loot;
unsigned char attack_scratch[16384] __attribute__((aligned(4096)));
u64 attack_fs_base;

static const char* case_name;
static int breaches;
static sigjmp_buf way_back;
static volatile int is_attempting;

// ---- talking
// ---------------------------------------------------------------------------------------

static void write_line(const char* word, const char* format, va_list arguments) {
  char line[512];
  int length = snprintf(line, sizeof(line), "%s", word);
  length += vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, arguments);
  if (length > (int)sizeof(line) - 2) length = (int)sizeof(line) - 2;
  line[length++] = '\n';
  (void)!write(1, line, (size_t)length);
}

#define WRITE_LINE(word)               \
  va_list arguments;                   \
  va_start(arguments, format);         \
  write_line(word, format, arguments); \
  va_end(arguments)

void say(const char* format, ...) { WRITE_LINE(""); }
void note(const char* format, ...) { WRITE_LINE("note "); }
void breach(const char* format, ...) {
  if (++breaches > 40) return;
  WRITE_LINE("breach ");
}

static int read_line(char* line, size_t size) {
  size_t length = 0;
  while (length + 1 < size) {
    const ssize_t got = read(0, line + length, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    if (line[length] == '\n') break;
    ++length;
  }
  line[length] = 0;
  return 1;
}

static void hear_places(void) {
  char line[256];
  while (read_line(line, sizeof(line)) && strcmp(line, "go") != 0) {
    struct place* place = &places[place_count];
    if (sscanf(line, "isolation %31s", isolation) == 1) continue;
    if (place_count < 64 && sscanf(line, "place %31s %lx %lx %lx %lx", place->name, &place->read,
                                   &place->write, &place->start, &place->end) == 5) {
      ++place_count;
    }
  }
}

int addresses_are_cut(void) { return strcmp(isolation, "seg") == 0; }

const struct place* find_place(const char* name) {
  for (int i = 0; i < place_count; ++i) {
    if (strcmp(places[i].name, name) == 0) return &places[i];
  }
  return NULL;
}

// ---- attempts
// --------------------------------------------------------------------------------------

// No stack protector and no errno before FS base is what it was: the attacks leave it anywhere.
static void on_signal(int signal_number, siginfo_t* info, void* raw) {
  __asm__ volatile("wrfsbase %0" : : "r"(attack_fs_base));
  const ucontext_t* context = raw;
  caught.signal = signal_number;
  caught.code = info->si_code;
  caught.address = (u64)info->si_addr;
  caught.rip = (u64)context->uc_mcontext.gregs[REG_RIP];
  caught.rsp = (u64)context->uc_mcontext.gregs[REG_RSP];
  if (!is_attempting) {
    breach("signal %d at rip %lx, address %lx, outside an attempt", signal_number, caught.rip,
           caught.address);
    _exit(3);
  }
  siglongjmp(way_back, signal_number);
}

static const int kProcessorSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS};

static void install_handlers(void) {
  static unsigned char stack[65536];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_sigaction = on_signal,
                             .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  for (size_t i = 0; i < sizeof(kProcessorSignals) / sizeof(int); ++i) {
    sigaction(kProcessorSignals[i], &action, NULL);
  }
}

int is_refusal(int signal_number) {
  return signal_number == SIGSEGV || signal_number == SIGBUS || signal_number == SIGILL ||
         signal_number == SIGTRAP;
}

int attempt(void (*code)(u64), u64 target) {
  caught.signal = caught.code = 0;
  caught.address = caught.rip = caught.rsp = 0;
  is_attempting = 1;
  if (sigsetjmp(way_back, 1) == 0) code(target);
  is_attempting = 0;
  __asm__ volatile("cld\n\tfninit\n\tldmxcsr %0" : : "m"((unsigned){0x1f80}));
  return caught.signal;
}

int attempt_in_child(void (*code)(u64), u64 target) {
  const pid_t child = fork();
  if (child == 0) {
    for (size_t i = 0; i < sizeof(kProcessorSignals) / sizeof(int); ++i) {
      signal(kProcessorSignals[i], SIG_DFL);
    }
    alarm(20);
    code(target);
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

long raw_call(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  register u64 r10 __asm__("r10") = d;
  register u64 r8 __asm__("r8") = e;
  register u64 r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

// ---- rows
// ------------------------------------------------------------------------------------------

int cpu_has(enum needs needs) {
  unsigned a, b, c, d;
  switch (needs) {
    case ANY_CPU:
      return 1;
    case NEEDS_AVX:
      return __builtin_cpu_supports("avx");
    case NEEDS_AVX2:
      return __builtin_cpu_supports("avx2");
    case NEEDS_AVX512F:
      return __builtin_cpu_supports("avx512f");
    case NEEDS_AVX512BW:
      return __builtin_cpu_supports("avx512bw");
    case NEEDS_AVX512DQ:
      return __builtin_cpu_supports("avx512dq");
    case NEEDS_F16C:
      __cpuid(1, a, b, c, d);
      return (c >> 29) & 1;
    case NEEDS_MOVBE:
      __cpuid(1, a, b, c, d);
      return (c >> 22) & 1;
    case NEEDS_CX16:
      __cpuid(1, a, b, c, d);
      return (c >> 13) & 1;
    case NEEDS_XSAVEC:
      __cpuid_count(0xd, 1, a, b, c, d);
      return (a >> 1) & 1;
    case NEEDS_PKU:
      __cpuid_count(7, 0, a, b, c, d);
      return (c >> 3) & 1;
  }
  return 0;
}

static void run_row(const struct row* row, const struct place* place) {
  const int is_store = row->access == STORES || row->access == LOADS_ROOM;
  const u64 target = is_store ? place->write : place->read;
  if (target == 0) return;
  const int signal_number = attempt(row->code, target);
  if (row->access == JUMPS) {
    // Where it went is what it read.
    say("loot %s %s %lx 8 %lx", row->name, place->name, target, caught.rip);
    if (signal_number != SIGSEGV && signal_number != SIGBUS) {
      breach("%s at %s: signal %d", row->name, place->name, signal_number);
    }
    return;
  }
  if (signal_number == 0) {
    say("completed %s %s", row->name, place->name);
    if (row->access == LOADS) {
      say("loot %s %s %lx %d %lx", row->name, place->name, target, row->bytes, attack_loot);
    }
  } else if (signal_number == SIGILL) {
    note("%s raised #UD", row->name);
  } else if (signal_number != SIGSEGV && signal_number != SIGBUS) {
    breach("%s at %s: signal %d", row->name, place->name, signal_number);
  }
}

void run_rows(const struct row* rows, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!cpu_has(rows[i].needs)) {
      note("%s: not on this processor", rows[i].name);
      continue;
    }
    for (int j = 0; j < place_count; ++j) run_row(&rows[i], &places[j]);
  }
}

int main(int argc, char** argv) {
  const struct attack_case* chosen = attack_cases;
  while (chosen->name != NULL && (argc < 2 || strcmp(argv[1], chosen->name) != 0)) ++chosen;
  if (chosen->name == NULL) {
    for (chosen = attack_cases; chosen->name != NULL; ++chosen) puts(chosen->name);
    return 2;
  }
  case_name = chosen->name;
  __asm__ volatile("rdfsbase %0" : "=r"(attack_fs_base));
  memset(attack_scratch, 0x5a, sizeof(attack_scratch));
  install_handlers();
  if (chosen->prepare != NULL) chosen->prepare();
  say("ready");
  hear_places();
  if (place_count == 0) breach("the driver named no places");
  chosen->run();
  // A system call still works, and the kernel's idea of us is what it was.
  if (CALL1(SYS_getppid, 0) <= 0) breach("getppid fails");
  say("over");
  char line[64];
  (void)!read_line(line, sizeof(line));
  say("%s: %s", case_name, breaches == 0 ? "contained" : "not contained");
  return breaches == 0 ? 0 : 1;
}
