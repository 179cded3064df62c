// What single operations cost: repeats each a fixed number of times between two readings of the
// clock and of a counter, and prints one line for it: name, repetitions, nanoseconds, counts.
//
//     operations [--count FILE] [NAME...]      # /sys/kernel/debug/kvm/exits; without it: zeros
//
// Where the clock counts instructions (tests/lab/run --icount) a nanosecond is an instruction.
// What the readings themselves cost is measured first and subtracted. The counter of KVM forgets
// the machines that are gone, so an operation that makes processes and waits for them has no
// count: it prints -1. Anything that goes wrong ends the program with 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { kPage = 4096, kMebibyte = 1 << 20, kPages = 100, kMostTouched = 4096 };

static void fail(const char* what) {
  fprintf(stderr, "operations: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void require(int is_true, const char* what) {
  if (!is_true) fail(what);
}

// ---- Calls ----

static void nothing(long times) { (void)times; }

// Two instructions 500 times: shows that the clock counts what it should.
static void thousand_instructions(long times) {
  while (times-- > 0) {
    long left = 500;
    __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(left));
  }
}

static void get_pid(long times) {
  while (times-- > 0) syscall(SYS_getpid);
}

static void mask_signals(long times) {
  sigset_t mask;
  sigemptyset(&mask);
  while (times-- > 0) require(sigprocmask(SIG_BLOCK, &mask, NULL) == 0, "sigprocmask");
}

// A critical section: one handled signal blocked and let in again.
static void count_signal(int signal, siginfo_t* info, void* context);
static void handle(int signal, void (*handler)(int, siginfo_t*, void*));
static void handle_user_signal(void) { handle(SIGUSR1, count_signal); }

static void block_signal(long times) {
  sigset_t mask, old;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  while (times-- > 0) {
    require(sigprocmask(SIG_BLOCK, &mask, &old) == 0, "sigprocmask");
    require(sigprocmask(SIG_SETMASK, &old, NULL) == 0, "sigprocmask");
  }
}

static void pass_over(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
}

// One handler in another's place.
static void change_handler(long times) {
  for (long i = 0; i < times; ++i) handle(SIGUSR1, i % 2 == 0 ? pass_over : count_signal);
}

static void change_stack(long times) {
  static char alternate[1 << 16];
  const stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
  const stack_t none = {.ss_flags = SS_DISABLE};
  for (long i = 0; i < times; ++i) {
    require(syscall(SYS_sigaltstack, i % 2 == 0 ? &stack : &none, NULL) == 0, "sigaltstack");
  }
}

// Of no thread that waits.
static void wake_nobody(long times) {
  static uint32_t word;
  while (times-- > 0) {
    require(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 0, "futex");
  }
}

static void refused_call(long times) {
  while (times-- > 0) require(syscall(SYS_io_setup, 0, NULL) == -1, "io_setup");
}

static void time_of_day(long times) {
  struct timeval now;
  while (times-- > 0) gettimeofday(&now, NULL);
}

static void time_of_day_call(long times) {
  struct timeval now;
  while (times-- > 0) require(syscall(SYS_gettimeofday, &now, NULL) == 0, "gettimeofday");
}

// ---- Files ----

static int file = -1;

static void open_null(void) {
  file = open("/dev/null", O_WRONLY);
  require(file >= 0, "/dev/null");
}

static void write_byte(long times) {
  while (times-- > 0) require(write(file, "", 1) == 1, "write");
}

static char block[kPage];

static void make_cached_file(void) {
  file = memfd_create("cached", 0);
  require(file >= 0 && write(file, block, kPage) == kPage, "memfd");
}

static void read_block(long times) {
  while (times-- > 0) require(pread(file, block, kPage, 0) == kPage, "pread");
}

static void close_file(void) { close(file); }

// ---- Memory ----

static void* map(size_t size) {
  void* place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(place != MAP_FAILED, "mmap");
  return place;
}

static void touch(void* place, size_t size) {
  for (size_t at = 0; at < size; at += kPage) ((volatile char*)place)[at] = 1;
}

static void map_touch_unmap(long times, size_t size) {
  while (times-- > 0) {
    void* place = map(size);
    touch(place, size);
    require(munmap(place, size) == 0, "munmap");
  }
}

static void map_page(long times) { map_touch_unmap(times, kPage); }
static void map_mebibyte(long times) { map_touch_unmap(times, kMebibyte); }

static char* memory;

static void map_untouched(void) {
  memory = map((size_t)kMostTouched * kPage);
  // Else the kernel may give 2 MiB at the first touch.
  require(madvise(memory, (size_t)kMostTouched * kPage, MADV_NOHUGEPAGE) == 0, "madvise");
}

static void touch_fresh(long times) {
  require(times <= kMostTouched, "too many pages");
  touch(memory, (size_t)times * kPage);
}

static void unmap_untouched(void) { munmap(memory, (size_t)kMostTouched * kPage); }

// ---- Signals and faults ----

static volatile sig_atomic_t signals_seen;

static void handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  require(sigaction(signal, &action, NULL) == 0, "sigaction");
}

static void count_signal(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
  ++signals_seen;
}

static void signal_self(long times) {
  const pid_t self = getpid();
  signals_seen = 0;
  for (long i = 0; i < times; ++i) require(kill(self, SIGUSR1) == 0, "kill");
  require(signals_seen == times, "a signal was lost");
}

// The load below has two bytes.
static void skip_load(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info;
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP] += 2;
  ++signals_seen;
}

static void forbid_page(void) {
  memory = map(kPage);
  require(mprotect(memory, kPage, PROT_NONE) == 0, "mprotect");
  handle(SIGSEGV, skip_load);
}

static void trap(long times) {
  signals_seen = 0;
  for (long i = 0; i < times; ++i) {
    __asm__ volatile(".byte 0x8a, 0x00" : : "a"(memory) : "memory");  // mov (%rax), %al
  }
  require(signals_seen == times, "a fault was lost");
}

// Without the way back: the handler's first instructions go on behind the load.
void* volatile behind;
void* volatile stack_before;
__attribute__((naked)) static void leave_handler(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
  __asm__("movq stack_before(%rip), %rsp\n\tjmp *behind(%rip)");
}

static void forbid_page_for_good(void) {
  memory = map(kPage);
  require(mprotect(memory, kPage, PROT_NONE) == 0, "mprotect");
  struct sigaction action = {.sa_sigaction = leave_handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
  require(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
}

static void enter_handler(long times) {
  while (times-- > 0) {
    __asm__ volatile(
        "leaq 1f(%%rip), %%rcx\n\tmovq %%rcx, behind(%%rip)\n\tmovq %%rsp, stack_before(%%rip)\n\t"
        "movb (%%rax), %%al\n1:"
        :
        : "a"(memory)
        : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
  }
}

static void give_alternate_stack(void) {
  static char alternate[1 << 16];
  const stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
  require(sigaltstack(&stack, NULL) == 0, "sigaltstack");
  memory = map(kPage);
  require(mprotect(memory, kPage, PROT_NONE) == 0, "mprotect");
  struct sigaction action = {.sa_sigaction = skip_load, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  require(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
}

static void move_heap(long times) {
  while (times-- > 0) {
    char* const end = sbrk(16 * kPage);
    require(end != (void*)-1, "sbrk");
    *(volatile char*)end = 1;
    require(sbrk(-16 * kPage) != (void*)-1, "sbrk");
  }
}

// Else a fault that nobody expects would be taken for one of these, for ever.
static void unmap_guarded(size_t size) {
  signal(SIGSEGV, SIG_DFL);
  munmap(memory, size);
}

static void unmap_page(void) { unmap_guarded(kPage); }

// Appel and Li, "Virtual memory primitives for user programs": the order of the pages is random
// there, and a permutation here.
static volatile char* page(long index) { return memory + index % kPages * 37 % kPages * kPage; }

static void protect(volatile void* place, size_t size, int rights) {
  require(mprotect((void*)place, size, rights) == 0, "mprotect");
}

static void* start_of_page(void* place) {
  return (void*)((uintptr_t)place & ~(uintptr_t)(kPage - 1));
}

static volatile long next_protected;

static void protect_other(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  ++signals_seen;
  protect(page(next_protected), kPage, PROT_READ);
  protect(start_of_page(info->si_addr), kPage, PROT_READ | PROT_WRITE);
}

static void unprotect(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  ++signals_seen;
  protect(start_of_page(info->si_addr), kPage, PROT_READ | PROT_WRITE);
}

static void map_pages(void) {
  memory = map(kPages * kPage);
  touch(memory, kPages * kPage);
}

static void prepare_appel_li_1(void) {
  map_pages();
  handle(SIGSEGV, protect_other);
}

// prot1, trap, unprot: each fault frees its own page and forbids the next.
static void appel_li_1(long times) {
  signals_seen = 0;
  protect(page(0), kPage, PROT_READ);
  for (long i = 0; i < times * kPages; ++i) {
    next_protected = i + 1;
    *page(i) = 1;
  }
  protect(memory, kPages * kPage, PROT_READ | PROT_WRITE);
  require(signals_seen == times * kPages, "a fault was lost");
}

static void prepare_appel_li_2(void) {
  map_pages();
  handle(SIGSEGV, unprotect);
}

// protN, trap, unprot: all are forbidden at once, and each fault frees one.
static void appel_li_2(long times) {
  signals_seen = 0;
  for (long round = 0; round < times; ++round) {
    protect(memory, kPages * kPage, PROT_READ);
    for (long i = 0; i < kPages; ++i) *page(i) = 1;
  }
  require(signals_seen == times * kPages, "a fault was lost");
}

static void unmap_pages(void) { unmap_guarded(kPages * kPage); }

// ---- Threads and processes ----

static _Atomic uint32_t turn;  // whose turn it is: 0 ours, 1 the other thread's, 2 nobody's again
static pthread_t partner;

static void wait_while(uint32_t value) {
  while (turn == value) {
    const long result = syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    require(result == 0 || errno == EAGAIN || errno == EINTR, "futex");
  }
}

static void give_turn(uint32_t value) {
  turn = value;
  require(syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) >= 0, "futex");
}

static void* return_turns(void* unused) {
  for (;;) {
    wait_while(0);
    if (turn == 2) return unused;
    give_turn(0);
  }
}

static void start_thread(void) {
  turn = 0;
  errno = pthread_create(&partner, NULL, return_turns, NULL);
  require(errno == 0, "pthread_create");
}

static void futex_round(long times) {
  while (times-- > 0) {
    give_turn(1);
    wait_while(1);
  }
}

static void end_thread(void) {
  give_turn(2);
  pthread_join(partner, NULL);
}

static int to_child[2], from_child[2];
static pid_t child;

static void start_process(void) {
  require(pipe(to_child) == 0 && pipe(from_child) == 0, "pipe");
  child = fork();
  require(child >= 0, "fork");
  if (child != 0) {
    close(to_child[0]);
    close(from_child[1]);
    return;
  }
  close(to_child[1]);
  close(from_child[0]);
  char byte;
  while (read(to_child[0], &byte, 1) == 1) {
    if (write(from_child[1], &byte, 1) != 1) _exit(1);
  }
  _exit(0);
}

static void pipe_round(long times) {
  char byte = 0;
  while (times-- > 0) {
    require(write(to_child[1], &byte, 1) == 1, "write");
    require(read(from_child[0], &byte, 1) == 1, "read");
  }
}

static void wait_for_success(pid_t process) {
  int status;
  require(waitpid(process, &status, 0) == process, "waitpid");
  require(status == 0, "a process failed");
}

static void end_process(void) {
  close(to_child[1]);
  close(from_child[0]);
  wait_for_success(child);
}

static const char* true_program;

static void fork_wait(long times) {
  while (times-- > 0) {
    const pid_t made = fork();
    require(made >= 0, "fork");
    if (made == 0) _exit(0);
    wait_for_success(made);
  }
}

static void fork_exec_wait(long times) {
  while (times-- > 0) {
    const pid_t made = fork();
    require(made >= 0, "fork");
    if (made == 0) {
      execl(true_program, true_program, (char*)NULL);
      _exit(127);
    }
    wait_for_success(made);
  }
}

// ---- The table ----

enum Countable { kCountable, kChildrenAreForgotten };

struct Operation {
  const char* name;
  long times;  // few: in the lab one exit takes 0.1 to 0.25 ms
  void (*run)(long times);
  void (*prepare)(void);  // may be NULL, like the next
  void (*finish)(void);
  enum Countable countable;
};

static const struct Operation operations[] = {
    {"thousand_instructions", 2000, thousand_instructions, NULL, NULL, kCountable},
    {"getpid", 1000, get_pid, NULL, NULL, kCountable},
    {"sigprocmask", 1000, mask_signals, NULL, NULL, kCountable},
    {"block_signal", 1000, block_signal, handle_user_signal, NULL, kCountable},
    {"change_handler", 1000, change_handler, handle_user_signal, NULL, kCountable},
    {"change_stack", 1000, change_stack, NULL, NULL, kCountable},
    {"refused_call", 1000, refused_call, NULL, NULL, kCountable},
    {"wake_nobody", 1000, wake_nobody, NULL, NULL, kCountable},
    {"gettimeofday", 1000, time_of_day, NULL, NULL, kCountable},
    {"gettimeofday_call", 1000, time_of_day_call, NULL, NULL, kCountable},
    {"write_byte", 1000, write_byte, open_null, close_file, kCountable},
    {"read_4k", 1000, read_block, make_cached_file, close_file, kCountable},
    {"map_page", 200, map_page, NULL, NULL, kCountable},
    {"map_mebibyte", 200, map_mebibyte, NULL, NULL, kCountable},
    {"move_heap", 200, move_heap, NULL, NULL, kCountable},
    {"map_page_shared", 200, map_page, start_thread, end_thread, kCountable},
    {"page_fault", 1000, touch_fresh, map_untouched, unmap_untouched, kCountable},
    {"trap", 4000, trap, forbid_page, unmap_page, kCountable},
    {"trap_on_stack", 4000, trap, give_alternate_stack, unmap_page, kCountable},
    {"enter_handler", 4000, enter_handler, forbid_page_for_good, unmap_page, kCountable},
    {"appel_li_1", 40, appel_li_1, prepare_appel_li_1, unmap_pages, kCountable},
    {"appel_li_2", 40, appel_li_2, prepare_appel_li_2, unmap_pages, kCountable},
    {"signal_self", 200, signal_self, handle_user_signal, NULL, kCountable},
    {"futex_round", 200, futex_round, start_thread, end_thread, kCountable},
    {"pipe_round", 200, pipe_round, start_process, end_process, kCountable},
    {"fork_wait", 10, fork_wait, NULL, NULL, kChildrenAreForgotten},
    {"fork_exec_wait", 10, fork_exec_wait, NULL, NULL, kChildrenAreForgotten},
};

struct Reading {
  long count;
  long nanoseconds;
  long idle;
};

static const char* counter;  // a file; NULL: nothing is counted

// Nanoseconds that the processor has idled: they pass the clock without an instruction.
static long read_idle(void) {
  FILE* timers = fopen("/proc/timer_list", "r");
  require(timers != NULL, "/proc/timer_list");
  char line[256];
  long idle = -1;
  while (idle < 0 && fgets(line, sizeof line, timers) != NULL) {
    if (sscanf(line, " .idle_sleeptime : %ld", &idle) != 1) idle = -1;
  }
  require(idle >= 0, "no idle time in /proc/timer_list");
  fclose(timers);
  return idle;
}

static struct Reading read_now(void) {
  struct Reading now = {0, 0, 0};
  if (counter != NULL) {
    // Opened anew each time: it cannot be rewound.
    const int opened = open(counter, O_RDONLY);
    char text[32] = "";
    require(opened >= 0 && read(opened, text, sizeof text - 1) > 0, counter);
    close(opened);
    now.count = atol(text);
    now.idle = read_idle();
  }
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  now.nanoseconds = time.tv_sec * 1000000000 + time.tv_nsec;
  return now;
}

// The counter outside, the clock inside.
static struct Reading measure(void (*run)(long), long times) {
  const struct Reading before = read_now();
  run(times);
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  const struct Reading after = read_now();
  const long idle = after.idle - before.idle;
  return (struct Reading){after.count - before.count,
                          time.tv_sec * 1000000000 + time.tv_nsec - before.nanoseconds - idle, idle};
}

static void report(const struct Operation* operation) {
  if (operation->prepare != NULL) operation->prepare();
  // What is done for the first time costs more: code pages, page tables, a thread's first entry.
  // A touched page is fresh no more.
  const int is_repeatable = operation->run != touch_fresh;
  if (is_repeatable) operation->run(operation->times / 10 + 1);
  measure(nothing, 0);
  const struct Reading overhead = measure(nothing, 0);
  const struct Reading whole = measure(operation->run, operation->times);
  if (operation->finish != NULL) operation->finish();
  // A reading may have one exit more or less: then an operation without any has less than none.
  const long count = whole.count < overhead.count ? 0 : whole.count - overhead.count;
  printf("%s %ld %ld %ld\n", operation->name, operation->times,
         whole.nanoseconds - overhead.nanoseconds,
         operation->countable == kCountable ? count : -1);
  fflush(stdout);
}

static int is_wanted(const char* name, int count, char** names) {
  for (int i = 0; i < count; ++i) {
    if (strcmp(name, names[i]) == 0) return 1;
  }
  return count == 0;
}

// The program that does nothing lies beside this one.
static void find_true_program(const char* self) {
  static char path[4096];
  const char* slash = strrchr(self, '/');
  require(slash != NULL, "started without a path");
  snprintf(path, sizeof path, "%.*s/true_static", (int)(slash - self), self);
  require(access(path, X_OK) == 0, path);
  true_program = path;
}

int main(int argc, char** argv) {
  find_true_program(argv[0]);
  int next = 1;
  if (argc > 2 && strcmp(argv[1], "--count") == 0) {
    counter = argv[2];
    next = 3;
  }
  int reported = 0;
  for (size_t i = 0; i < sizeof operations / sizeof operations[0]; ++i) {
    if (!is_wanted(operations[i].name, argc - next, argv + next)) continue;
    report(&operations[i]);
    ++reported;
  }
  errno = EINVAL;
  require(reported == (argc == next ? reported : argc - next), "an unknown name");
  return 0;
}
