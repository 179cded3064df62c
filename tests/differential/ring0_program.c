// Run in the lab under --ring=0: a program that knows that it is in ring 0 and uses it, and goes on being an ordinary process with
// threads, signals and children. Exit status 0 and a last line "ring 0 works" when all of it did.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static void expect(int condition, const char *what) {
  if (condition) return;
  printf("FAILED: %s\n", what);
  exit(1);
}

// ---- privileged instructions --------------------------------------------------------------------

static uint64_t read_cr3(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr3, %0" : "=r"(value));
  return value;
}
static void write_cr3(uint64_t value) { __asm__ volatile("mov %0, %%cr3" ::"r"(value) : "memory"); }
static void invlpg(const void *address) { __asm__ volatile("invlpg (%0)" ::"r"(address) : "memory"); }
static uint64_t rdmsr(uint32_t index) {
  uint32_t low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return ((uint64_t)high << 32) | low;
}
static uint64_t rdtsc(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return ((uint64_t)high << 32) | low;
}

static void privileged(void) {
  unsigned cs;
  __asm__ volatile("mov %%cs, %0" : "=r"(cs));
  expect((cs & 3) == 0, "the code selector says ring 0");
  const uint64_t cr3 = read_cr3();
  expect(cr3 != 0, "CR3 is a page table's address");
  char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(page, 7, 4096);
  const uint64_t begin = rdtsc();
  for (int i = 0; i < 100; i++) invlpg(page);
  const uint64_t middle = rdtsc();
  for (int i = 0; i < 100; i++) write_cr3(cr3);
  const uint64_t end = rdtsc();
  expect(page[100] == 7, "memory is there after INVLPG and MOV CR3");
  fprintf(stderr, "cycles: INVLPG %lu, MOV CR3 %lu\n", (unsigned long)(middle - begin) / 100, (unsigned long)(end - middle) / 100);
  expect((rdmsr(0xc0000080) & 0x500) == 0x500, "EFER says long mode");
  expect(rdmsr(0xc0000100) == (uint64_t)__builtin_ia32_rdfsbase64(), "the FS base MSR is FS base");
  __asm__ volatile("cli; sti; clts" ::: "memory");
}

// ---- an interrupt table of its own --------------------------------------------------------------

struct __attribute__((packed)) table_register {
  uint16_t limit;
  uint64_t base;
};
static uint64_t own_table[64] __attribute__((aligned(4096)));
volatile long breakpoints_seen;

// Runs on the IST stack that the gate names; everything it uses is restored.
__asm__(".pushsection .text\n"
        "own_breakpoint:\n"
        "  lock incq breakpoints_seen(%rip)\n"
        "  iretq\n"
        ".popsection\n");
extern char own_breakpoint[];

static void own_handler(void) {
  struct table_register old, fresh;
  __asm__ volatile("sidt %0" : "=m"(old));
  expect(old.limit >= 32 * 16 - 1, "the table has 32 gates");
  memcpy(own_table, (void *)old.base, 32 * 16);
  const uint64_t handler = (uint64_t)own_breakpoint;
  uint64_t *gate = own_table + 2 * 3;
  gate[0] = (gate[0] & 0x0000ffffffff0000) | (handler & 0xffff) | ((handler >> 16 & 0xffff) << 48);
  gate[1] = handler >> 32;
  fresh.limit = 32 * 16 - 1;
  fresh.base = (uint64_t)own_table;
  __asm__ volatile("lidt %0" ::"m"(fresh));
  const uint64_t begin = rdtsc();
  for (int i = 0; i < 100; i++) __asm__ volatile("int3");
  const uint64_t end = rdtsc();
  fprintf(stderr, "cycles: a breakpoint to an own handler and back %lu\n", (unsigned long)(end - begin) / 100);
  expect(breakpoints_seen == 100, "its own handler saw every breakpoint");
  // The other vectors go where they went before: a page fault still brings the page.
  char *pages = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 1 << 20; i += 4096) expect(pages[i] == 0, "fresh pages come under the own table");
  __asm__ volatile("lidt %0" ::"m"(old));
}

// ---- the red zone -------------------------------------------------------------------------------

// Fills the 128 bytes below RSP, runs into page faults, a breakpoint, a single step and system calls, and counts bytes that changed.
long red_zone_errors(char *fresh_page);
__asm__(".pushsection .text\n"
        "red_zone_errors:\n"
        "  mov $-128, %rcx\n"
        "1: movb $0x5a, (%rsp,%rcx)\n"
        "  inc %rcx\n"
        "  jnz 1b\n"
        "  movb $1, (%rdi)\n"      // #PF
        "  movb $1, 4096(%rdi)\n"  // #PF
        "  int3\n"                 // SIGTRAP, whose handler returns
        "  mov $39, %eax\n"        // getpid
        "  syscall\n"
        "  ud2\n"                  // SIGILL, whose handler steps over it
        "  mov $-128, %rcx\n"
        "  xor %eax, %eax\n"
        "2: cmpb $0x5a, (%rsp,%rcx)\n"
        "  je 3f\n"
        "  inc %eax\n"
        "3: inc %rcx\n"
        "  jnz 2b\n"
        "  ret\n"
        ".popsection\n");

static volatile sig_atomic_t traps, faults;
static uint64_t shown_selectors;

static void on_trap(int signal, siginfo_t *info, void *raw) {
  (void)signal;
  (void)info;
  shown_selectors = (uint64_t)((ucontext_t *)raw)->uc_mcontext.gregs[REG_CSGSFS];
  traps++;
}
static void on_illegal(int signal, siginfo_t *info, void *raw) {
  (void)signal;
  (void)info;
  ((ucontext_t *)raw)->uc_mcontext.gregs[REG_RIP] += 2;
  faults++;
}
static char *guarded;
static void on_fault(int signal, siginfo_t *info, void *raw) {
  (void)signal;
  const ucontext_t *context = raw;
  expect(info->si_addr == guarded + 8 && info->si_code == SEGV_ACCERR, "the fault's address and kind");
  expect(context->uc_mcontext.gregs[REG_ERR] == 7, "the error code is a program's: user, write, present");
  mprotect(guarded, 4096, PROT_READ | PROT_WRITE);
  faults++;
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
  sigaction(signal, &action, NULL);
}

static void signals(void) {
  handle(SIGTRAP, on_trap, 0);
  handle(SIGILL, on_illegal, 0);
  handle(SIGSEGV, on_fault, 0);
  char *fresh = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  expect(red_zone_errors(fresh) == 0, "the red zone is whole");
  expect(traps == 1 && faults == 1, "both signals came");
  expect((shown_selectors & 0xffff) == 0x33 && shown_selectors >> 48 == 0x2b, "signal frames show a program's selectors");
  guarded = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  guarded[8] = 3;
  expect(guarded[8] == 3 && faults == 2, "a protected page faults and is repaired");
}
// There are no interrupts, so nothing would end it.
static void on_halt(int signal, siginfo_t *info, void *raw) {
  (void)signal;
  (void)info;
  ((ucontext_t *)raw)->uc_mcontext.gregs[REG_RIP] += 1;
  faults++;
}

// ---- an ordinary process ------------------------------------------------------------------------

static volatile sig_atomic_t alarms;
static void on_alarm(int signal, siginfo_t *info, void *raw) {
  (void)signal;
  (void)info;
  (void)raw;
  alarms++;
}
static _Atomic long sum;
static void *work(void *raw) {
  for (long i = 0; i < 1000; i++) sum += (long)raw;
  char *own = malloc(300000);
  memset(own, 1, 300000);
  free(own);
  return NULL;
}

static void process(void) {
  handle(SIGALRM, on_alarm, SA_RESTART);
  ualarm(2000, 2000);
  for (int round = 0; round < 5; round++) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++) expect(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0, "a thread starts");
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  }
  expect(sum == 5 * 10 * 1000, "threads share memory");
  while (alarms < 5) __asm__ volatile("pause");  // in no system call
  ualarm(0, 0);
  const pid_t child = fork();
  if (child == 0) {
    expect(read_cr3() != 0, "a child is in ring 0 as well");
    execl("/bin/sh", "sh", "-c", "exit 7", NULL);
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 7, "fork, exec and wait");
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  privileged();
  own_handler();
  handle(SIGSEGV, on_halt, 0);
  __asm__ volatile("hlt");
  expect(faults == 1, "HLT is a fault");
  faults = 0;
  signals();
  process();
  puts("ring 0 works");
  return 0;
}
