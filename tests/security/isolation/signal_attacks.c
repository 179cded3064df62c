// Comes back from handlers with forged frames, lets frames fall on the runtime's memory, and looks
// for the host's own frames and the state of siblings while signals rain.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include "attack.h"

// ---- forged frames
// ---------------------------------------------------------------------------------

static void (*forge)(ucontext_t*, u64);
static u64 forge_target;

static void forging_handler(int signal_number, siginfo_t* info, void* context) {
  forge(context, forge_target);
}

// In the middle of an attempt: the frame that the handler returns from is forged.
static void raise_and_return(u64 target) {
  forge_target = target;
  CALL2(SYS_kill, CALL1(SYS_getpid, 0), SIGUSR1);
}

static int return_from_forged(void (*how)(ucontext_t*, u64), u64 target) {
  // On the ordinary stack: the alternate one is for what comes of it.
  struct sigaction action = {.sa_sigaction = forging_handler, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  forge = how;
  return attempt(raise_and_return, target);
}

static unsigned char* extended_state(ucontext_t* context) {
  return (unsigned char*)context->uc_mcontext.fpregs;
}

static void forge_rip(ucontext_t* context, u64 target) {
  context->uc_mcontext.gregs[REG_RIP] = (greg_t)target;
}

static void run_forged_rip(void) {
  for (int i = 0; i < place_count; ++i) {
    for (u64 offset = 0; offset < 48; offset += 3) {
      const u64 target = places[i].read + offset;
      const int signal_number = return_from_forged(forge_rip, target);
      if (signal_number != SIGSEGV || (caught.rip != target && !addresses_are_cut())) {
        breach("RIP in %s: signal %d at %lx", places[i].name, signal_number, caught.rip);
      }
    }
  }
  static const u64 kOdd[] = {0x7fffffffffff, 0x800000000000, 0x8000000000001000, 0xffffffffff600000,
                             ~0UL};
  for (size_t i = 0; i < sizeof(kOdd) / sizeof(u64); ++i) {
    const int signal_number = return_from_forged(forge_rip, kOdd[i]);
    if (signal_number != SIGSEGV && signal_number != SIGBUS)
      breach("RIP %lx: signal %d", kOdd[i], signal_number);
  }
}

static void push_somewhere(void) { __asm__ volatile("pushq %rax\n\tud2"); }
static void pop_somewhere(void) { __asm__ volatile("popq attack_loot(%rip)\n\tud2"); }

static void forge_rsp_push(ucontext_t* context, u64 target) {
  context->uc_mcontext.gregs[REG_RSP] = (greg_t)target + 64;
  context->uc_mcontext.gregs[REG_RIP] = (greg_t)push_somewhere;
  context->uc_mcontext.gregs[REG_RAX] = (greg_t)0xa5a5a5a5a5a5a5a5;
}
static void forge_rsp_pop(ucontext_t* context, u64 target) {
  context->uc_mcontext.gregs[REG_RSP] = (greg_t)target;
  context->uc_mcontext.gregs[REG_RIP] = (greg_t)pop_somewhere;
}

static void run_forged_rsp_stores(void) {
  for (int i = 0; i < place_count; ++i) {
    if (places[i].write == 0) continue;
    // Whoever gets to the UD2 has pushed.
    if (return_from_forged(forge_rsp_push, places[i].write) == SIGILL)
      say("completed store %s", places[i].name);
  }
}
static void run_forged_rsp_loads(void) {
  for (int i = 0; i < place_count; ++i) {
    if (return_from_forged(forge_rsp_pop, places[i].read) != SIGILL) continue;
    say("completed load %s", places[i].name);
    say("loot load %s %lx 8 %lx", places[i].name, places[i].read, attack_loot);
  }
}

static void forge_registers(ucontext_t* context, u64 selectors) {
  context->uc_mcontext.gregs[REG_CSGSFS] = (greg_t)selectors;
}
static volatile u64 flags_seen;
static void forge_flags(ucontext_t* context, u64 flags) {
  context->uc_mcontext.gregs[REG_EFL] |= (greg_t)flags;
}
static void raise_and_read_flags(u64 flags) {
  raise_and_return(flags);
  u64 value;
  unsigned short code;
  __asm__ volatile("pushfq\n\tpopq %0\n\tmovw %%cs, %1\n\tpushq $0x202\n\tpopfq"
                   : "=r"(value), "=r"(code));
  flags_seen = value;
  if ((code & 3) != 3) breach("CS is %x", code);
}

static void run_forged_selectors(void) {
  static const u64 kSelectors[] = {0x0010000000000008, 0x0000000000000000, 0x0033000000000033,
                                   0x002b000000000023, 0x00070000000f0007, 0x002b004300430010,
                                   0xffffffffffffffff};
  for (size_t i = 0; i < sizeof(kSelectors) / sizeof(u64); ++i) {
    const int signal_number = return_from_forged(forge_registers, kSelectors[i]);
    if (signal_number != 0 && signal_number != SIGSEGV && signal_number != SIGBUS) {
      breach("selectors %lx: signal %d", kSelectors[i], signal_number);
    }
    unsigned short code;
    __asm__ volatile("movw %%cs, %0" : "=r"(code));
    if (code != 0x33) breach("CS is %x", code);
  }
}

static void run_forged_flags(void) {
  // I/O privilege, nested task, virtual 8086, virtual interrupts, resume, alignment.
  static const u64 kFlags[] = {
      0x3000, 0x4000, 0x20000, 0x80000, 0x100000, 0x10000, 0xffffffff00000000, 0x400};
  for (size_t i = 0; i < sizeof(kFlags) / sizeof(u64); ++i) {
    struct sigaction action = {.sa_sigaction = forging_handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    forge = forge_flags;
    flags_seen = 0;
    attempt(raise_and_read_flags, kFlags[i]);
    if ((flags_seen & 0x1a3000) != 0) breach("flags %lx became %lx", kFlags[i], flags_seen);
  }
}

// ---- forged vector state
// ---------------------------------------------------------------------------

static void forge_state_pointer(ucontext_t* context, u64 target) {
  context->uc_mcontext.fpregs = (void*)target;
}
static void forge_state_pointer_odd(ucontext_t* context, u64 ignored) {
  context->uc_mcontext.fpregs = (void*)((u64)context->uc_mcontext.fpregs + 1);
}

static void run_forged_state_pointer(void) {
  for (int i = 0; i < place_count; ++i) {
    const u64 targets[] = {places[i].read & ~63UL, places[i].start, places[i].write};
    for (int j = 0; j < 3; ++j) {
      if (targets[j] == 0) continue;
      const int signal_number = return_from_forged(forge_state_pointer, targets[j]);
      if (signal_number != SIGSEGV) breach("state at %s: signal %d", places[i].name, signal_number);
    }
  }
  static const u64 kOdd[] = {
      8, USER_HALF_END - 64, USER_HALF_END, 0x7ffffffff000, 0x800000000000, ~63UL};
  for (size_t i = 0; i < sizeof(kOdd) / sizeof(u64); ++i) {
    if (return_from_forged(forge_state_pointer, kOdd[i]) != SIGSEGV)
      breach("state at %lx", kOdd[i]);
  }
  (void)return_from_forged(forge_state_pointer_odd, 0);
}

static void forge_features(ucontext_t* context, u64 features) {
  memcpy(extended_state(context) + 512, &features, 8);
}
static void forge_software_features(ucontext_t* context, u64 features) {
  memcpy(extended_state(context) + 464 + 8, &features, 8);
  memcpy(extended_state(context) + 512, &features, 8);
}
static void forge_compaction(ucontext_t* context, u64 word) {
  memcpy(extended_state(context) + 520, &word, 8);
}
static void forge_header(ucontext_t* context, u64 offset) {
  extended_state(context)[512 + offset] = 0xff;
}
static void forge_size(ucontext_t* context, u64 size) {
  const unsigned word = (unsigned)size;
  memcpy(extended_state(context) + 464 + 4, &word, 4);
  memcpy(extended_state(context) + 464 + 16, &word, 4);
}

// Bits of components the program must not set: PKRU first of all.
static void run_forged_features(void) {
  static const u64 kFeatures[] = {0x200, 0x2e7, 0xffff, 0x60000, 0x8000000000000000,
                                  ~0UL,  0x400, 0x1000};
  for (size_t i = 0; i < sizeof(kFeatures) / sizeof(u64); ++i) {
    if (return_from_forged(forge_features, kFeatures[i]) != SIGSEGV)
      breach("XSTATE_BV %lx", kFeatures[i]);
    const int signal_number = return_from_forged(forge_software_features, kFeatures[i]);
    if (signal_number != SIGSEGV && signal_number != 0)
      breach("features %lx: %d", kFeatures[i], signal_number);
    if (return_from_forged(forge_compaction, kFeatures[i]) != SIGSEGV)
      breach("XCOMP_BV %lx", kFeatures[i]);
  }
  for (u64 offset = 16; offset < 64; offset += 7) {
    if (return_from_forged(forge_header, offset) != SIGSEGV) breach("header byte %lu", offset);
  }
  for (u64 size = 1; size < 0x100000000; size <<= 2) {
    const int signal_number = return_from_forged(forge_size, size);
    if (signal_number != SIGSEGV && signal_number != 0) breach("size %lx: %d", size, signal_number);
  }
}

static void forge_mxcsr(ucontext_t* context, u64 value) {
  memcpy(extended_state(context) + 24, &(unsigned){(unsigned)value}, 4);
}
static void run_forged_mxcsr(void) {
  for (u64 bit = 18; bit < 32; ++bit) {
    if (return_from_forged(forge_mxcsr, 0x1f80 | (1UL << bit)) != SIGSEGV)
      breach("MXCSR bit %lu", bit);
  }
  if (return_from_forged(forge_mxcsr, 0xffffffff) != SIGSEGV) breach("MXCSR of ones");
}

// ---- frames on the runtime's memory
// ----------------------------------------------------------------

static void quiet_handler(int signal_number) {}

// In a child: there is no other end than SIGSEGV.
static void take_signal_on(u64 rsp) {
  signal(SIGUSR1, quiet_handler);
  stack_t none = {.ss_flags = SS_DISABLE};
  sigaltstack(&none, NULL);
  const long pid = CALL1(SYS_getpid, 0);
  __asm__ volatile(
      "movq %0, %%rsp\n\tmovl $62, %%eax\n\tsyscall\n\tmovl $231, %%eax\n\txorl %%edi, "
      "%%edi\n\tsyscall"
      :
      : "r"(rsp), "D"(pid), "S"((long)SIGUSR1)
      : "rax", "rcx", "r11", "memory");
}
// The same with threads' state at stake in this very process: an alternate stack for what follows.
static void take_signal_here(u64 rsp) {
  signal(SIGUSR1, quiet_handler);
  const long pid = CALL1(SYS_getpid, 0);
  __asm__ volatile(
      "movq %%rsp, attack_saved_rsp(%%rip)\n\tmovq %0, %%rsp\n\tmovl $62, %%eax\n\tsyscall\n\t"
      "movq attack_saved_rsp(%%rip), %%rsp"
      :
      : "r"(rsp), "D"(pid), "S"((long)SIGUSR1)
      : "rax", "rcx", "r11", "memory");
}

static void run_frame_on_runtime(void) {
  for (int i = 0; i < place_count; ++i) {
    const u64 tops[] = {places[i].write + 0xc00, places[i].end, places[i].start + 4096};
    for (int j = 0; j < 3; ++j) {
      if (j == 0 && places[i].write == 0) continue;
      if (attempt(take_signal_here, tops[j]) != SIGSEGV && !addresses_are_cut())
        breach("a frame on %s: signal %d", places[i].name, caught.signal);
    }
    if (i % 4 != 0 || addresses_are_cut()) continue;
    const int status = attempt_in_child(take_signal_on, places[i].end);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
      breach("a frame on %s: status %x", places[i].name, status);
  }
  static const u64 kOdd[] = {
      0, 64, USER_HALF_END + 64, USER_HALF_END + 0x2000, 0x800000000000, 0xffffffffffffffc0};
  for (size_t i = 0; i < sizeof(kOdd) / sizeof(u64); ++i) {
    if (attempt(take_signal_here, kOdd[i]) != SIGSEGV && !addresses_are_cut())
      breach("a frame at %lx: signal %d", kOdd[i], caught.signal);
  }
}

static void take_signal_on_alternate(u64 base) {
  struct sigaction action = {.sa_handler = quiet_handler, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  const stack_t stack = {.ss_sp = (void*)base, .ss_size = 16384};
  if (sigaltstack(&stack, NULL) != 0) _exit(7);
  CALL2(SYS_kill, CALL1(SYS_getpid, 0), SIGUSR1);
}
static void forge_alternate(ucontext_t* context, u64 base) {
  context->uc_stack.ss_sp = (void*)base;
  context->uc_stack.ss_size = 16384;
  context->uc_stack.ss_flags = 0;
}
static void forge_alternate_and_take(u64 base) {
  struct sigaction action = {.sa_sigaction = forging_handler, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  forge = forge_alternate;
  raise_and_return(base);
  struct sigaction next = {.sa_handler = quiet_handler, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR2, &next, NULL);
  CALL2(SYS_kill, CALL1(SYS_getpid, 0), SIGUSR2);
}

static void run_alternate_stack(void) {
  for (int i = 0; i < place_count; ++i) {
    const u64 base = places[i].write != 0 ? places[i].write & ~4095UL : places[i].start;
    // The write to the frame would be in the child's copy; what tells is that the child dies of it.
    const int status = attempt_in_child(take_signal_on_alternate, base);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
      breach("an alternate stack on %s: status %x", places[i].name, status);
    // A bad one in a frame may be ignored.
    const int forged = attempt_in_child(forge_alternate_and_take, base);
    if (!(WIFEXITED(forged) && WEXITSTATUS(forged) == 0) &&
        !(WIFSIGNALED(forged) && WTERMSIG(forged) == SIGSEGV)) {
      breach("an alternate stack in a frame on %s: status %x", places[i].name, forged);
    }
  }
}

// Handlers, restorers and masks at the runtime's addresses are data until they are jumped to.
static void use_action_at(u64 target) {
  const struct { u64 handler, flags, restorer, mask; } action = {target, 0x04000000, target, 0};
  CALL4(SYS_rt_sigaction, SIGUSR1, &action, 0, 8);
  CALL2(SYS_kill, CALL1(SYS_getpid, 0), SIGUSR1);
}
static void run_handler_at_runtime(void) {
  for (int i = 0; i < place_count; ++i) {
    if (attempt(use_action_at, places[i].read) != SIGSEGV)
      breach("a handler in %s: signal %d", places[i].name, caught.signal);
  }
}

// ---- storms
// ----------------------------------------------------------------------------------------

enum { kPattern = 0x6b, kBelow = 131072 };
static volatile int sibling_tid, signals_taken;
static unsigned char* volatile sibling_low;
static unsigned char sibling_alternate[65536];

static void storm_handler(int signal_number) { ++signals_taken; }

// Spins with RSP where it is; whatever the host pushed there would be seen by the other thread.
static void* spin(void* ignored) {
  const stack_t stack = {.ss_sp = sibling_alternate, .ss_size = sizeof(sibling_alternate)};
  sigaltstack(&stack, NULL);
  unsigned char* here = __builtin_frame_address(0);
  sibling_low = here - 1024 - kBelow;
  memset(sibling_low, kPattern, kBelow);
  sibling_tid = (int)CALL1(SYS_gettid, 0);
  u64 rounds = 0;
  for (;;) {
    // Translated code, system calls, faults of a page that is watched.
    __asm__ volatile("1: addq $1, %0\n\ttestq $0x3ff, %0\n\tjnz 1b" : "+r"(rounds) : : "cc");
    raw_call(SYS_getppid, 0, 0, 0, 0, 0, 0);
  }
  return NULL;
}

static pthread_t sibling;
static void start_sibling(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 1 << 20);
  pthread_create(&sibling, &attributes, spin, NULL);
  while (sibling_tid == 0) CALL1(SYS_sched_yield, 0);
}

static void start_storm(void) {
  struct sigaction action = {.sa_handler = storm_handler, .sa_flags = SA_ONSTACK | SA_RESTART};
  sigaction(SIGUSR2, &action, NULL);
}

// Waits until it is taken, but not for long: the sibling may be in the middle of anything.
static void send_storm_signal(void) {
  const int before = signals_taken;
  CALL3(SYS_tgkill, CALL1(SYS_getpid, 0), sibling_tid, SIGUSR2);
  for (int i = 0; i < 1000 && signals_taken == before; ++i) CALL1(SYS_sched_yield, 0);
}

static void end_storm(void) {
  // The sibling spins on: the driver still has to see its memory.
  if (signals_taken < 100) breach("only %d signals were taken", signals_taken);
}

// Everything below RSP belongs to the program: nobody else's frame is there, before, after or while
// it is overwritten.
static void run_host_frames_below_stack(void) {
  start_storm();
  for (int round = 0; round < 1500; ++round) {
    send_storm_signal();
    if (round % 4 != 0) continue;
    for (int i = 0; i < kBelow; i += 64) {
      if (sibling_low[i] != kPattern) {
        breach("something of the host's at %d below the stack", kBelow - i);
        sibling_low[i] = kPattern;
      }
    }
    memset((void*)sibling_low, kPattern, kBelow);
  }
  end_storm();
}

ATTACK_CODE(code_store_here, "movq %%rax, (%%rdi)")

// The state of a thread that is interrupted all the time, written by another one.
static void run_sibling_state_stores(void) {
  start_storm();
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < place_count; ++i) {
      static const char* const kThreads[] = {"slots", "exits", "tables", "signal_stack"};
      for (int j = 0; j < 4; ++j) {
        if (strncmp(places[i].name, kThreads[j], strlen(kThreads[j])) != 0) continue;
        send_storm_signal();
        // At a place that is not in use: under isolation none the storm shall go on.
        if (attempt(code_store_here, places[i].write + (u64)(round % 32) * 8) == 0 && round == 0) {
          say("completed store %s", places[i].name);
        }
      }
    }
  }
  end_storm();
}

// The host's frames of a sibling: its signal stack, while it is on it.
ATTACK_CODE(code_load_here, "movq (%%rdi), %%rax")
static void run_sibling_state_loads(void) {
  start_storm();
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < place_count; ++i) {
      if (strncmp(places[i].name, "signal_stack", 12) != 0) continue;
      send_storm_signal();
      if (attempt(code_load_here, places[i].read + (u64)(round % 512) * 8) == 0 && round == 0) {
        say("completed load %s", places[i].name);
      }
    }
  }
  end_storm();
}

// Signals of the processor's kind that somebody sends, also by way of timers, descriptors and
// queued infos: the runtime's handler must not take one for a fault of its own code.
void return_from_handler(void);
__asm__(".text\nreturn_from_handler:\n\tmovl $15, %eax\n\tsyscall");
static void take_processor_signals(u64 ignored) {
  static const int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, 32, 33, 34};
  struct sigaction action = {.sa_handler = storm_handler, .sa_flags = SA_ONSTACK};
  for (size_t i = 0; i < 6; ++i) sigaction(kSignals[i], &action, NULL);
  // The C library keeps these for itself.
  const struct {
    u64 handler, flags, restorer, mask;
  } raw = {(u64)storm_handler, 0x04000000, (u64)return_from_handler, 0};
  for (size_t i = 6; i < 9; ++i) CALL4(SYS_rt_sigaction, kSignals[i], &raw, 0, 8);
  const int pid = (int)CALL1(SYS_getpid, 0), ends_owner = pid;
  int ends[2];
  (void)!pipe2(ends, O_NONBLOCK);
  const pid_t sender = fork();
  if (sender == 0) {
    for (int round = 0; round < 3000; ++round) {
      for (int i = 0; i < 5; ++i) CALL2(SYS_kill, pid, kSignals[i]);
    }
    _exit(0);
  }
  for (int i = 0; i < 5; ++i) {
    // Any code that looks like the kernel's own is refused; what passes has a sender's.
    for (int code = -70; code < 130; code += 3) {
      siginfo_t info = {.si_signo = kSignals[i], .si_code = code};
      CALL3(SYS_rt_sigqueueinfo, pid, kSignals[i], &info);
    }
    const struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = kSignals[i]};
    int timer = 0;
    if (CALL3(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0) {
      const struct itimerspec often = {{0, 100000}, {0, 100000}};
      CALL4(SYS_timer_settime, timer, 0, &often, 0);
    }
    CALL3(SYS_fcntl, ends[0], F_SETSIG, kSignals[i]);
    CALL3(SYS_fcntl, ends[0], F_SETOWN, ends_owner);
    CALL3(SYS_fcntl, ends[0], F_SETFL, O_ASYNC | O_NONBLOCK);
    for (int round = 0; round < 200; ++round) {
      char byte = 0;
      (void)!write(ends[1], &byte, 1);
      (void)!read(ends[0], &byte, 1);
    }
    CALL5(SYS_prctl, 1, kSignals[i], 0, 0, 0);  // PR_SET_PDEATHSIG
  }
  // Those of the C library's own, which the runtime's may use too.
  for (int i = 5; i < 9; ++i) CALL3(SYS_tgkill, pid, pid, kSignals[i]);
  int status;
  while (waitpid(sender, &status, 0) < 0 && errno == EINTR) {
  }
  _exit(signals_taken > 20 ? 0 : 5);
}
static void run_processor_signals_sent(void) {
  const int status = attempt_in_child(take_processor_signals, 0);
  if (status != 0) breach("the receiver ended with status %x", status);
}

const struct attack_case attack_cases[] = {
    {"forged_rip", run_forged_rip},
    {"forged_rsp_stores", run_forged_rsp_stores},
    {"forged_rsp_loads", run_forged_rsp_loads},
    {"forged_selectors", run_forged_selectors},
    {"forged_flags", run_forged_flags},
    {"forged_state_pointer", run_forged_state_pointer},
    {"forged_features", run_forged_features},
    {"forged_mxcsr", run_forged_mxcsr},
    {"frame_on_runtime", run_frame_on_runtime},
    {"alternate_stack", run_alternate_stack},
    {"handler_at_runtime", run_handler_at_runtime},
    {"host_frames_below_stack", run_host_frames_below_stack, start_sibling},
    {"sibling_state_stores", run_sibling_state_stores, start_sibling},
    {"sibling_state_loads", run_sibling_state_loads, start_sibling},
    {"processor_signals_sent", run_processor_signals_sent},
    {NULL, NULL},
};
