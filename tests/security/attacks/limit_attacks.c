// More than a program is given: memory, mappings, processes, descriptors.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"

#define PAGE 4096ul
#define MIB (1ul << 20)

static void break_extremes(void) {
  const uintptr_t begin = (uintptr_t)syscall(SYS_brk, 0);
  static const uintptr_t kTargets[] = {1, 1ul << 46, 1ul << 47, ~0ul, 0x555555554000, 1ul << 63};
  for (int i = 0; i < 6; ++i) {
    const uintptr_t got = (uintptr_t)syscall(SYS_brk, kTargets[i]);
    if (got != begin) hole("brk(%lx) gives %lx, not %lx", kTargets[i], got, begin);
  }
  char* const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *page = 'x';
  if ((uintptr_t)syscall(SYS_brk, page + PAGE) != begin) hole("brk reached over a mapping");
  if (*page != 'x') hole("brk wiped a mapping");
  if ((uintptr_t)syscall(SYS_brk, begin + PAGE) != begin + PAGE) hole("brk grows no more");
}

// Each page a mapping of its own, until there are no more.
static void mapping_flood(void) {
  const size_t size = 600 * MIB;
  char* const area = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return hole("no area: %d", errno);
  unsigned done = 0;
  for (size_t offset = 0; offset < size; offset += 2 * PAGE, ++done) {
    if (mprotect(area + offset, PAGE, PROT_READ | PROT_WRITE) != 0) {
      if (errno != ENOMEM) hole("mprotect gives %d", errno);
      contained("the number of mappings that the kernel gives");
      break;
    }
  }
  if (done < 1000) hole("%u mappings only", done);
  // The program goes on.
  if (munmap(area, size) != 0) hole("cannot give it back: %d", errno);
}

// With --mem=64M.
static void page_tables(void) {
  for (size_t size = 1ul << 45; size > 64 * MIB; size /= 2) {
    if (mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) {
      hole("%lu MiB that can be written were mapped", size / MIB);
    }
  }
  // What can only be read is full of page tables all the same: a page of them for each 2 MiB.
  size_t touched = 0;
  for (const char* area; touched < 40; ++touched) {
    area = mmap(NULL, 1ul << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) break;
    for (size_t offset = 0; offset < 1ul << 30; offset += 2 * MIB) (void)*(volatile const char*)(area + offset);
  }
  if (touched == 40) hole("%zu GiB were touched", touched);
  if (touched < 16) hole("%zu GiB only", touched);
  contained("the memory it is given");
}

// Filled, and then no longer writable, so that it might not count any more.
static void sealed_memory(void) {
  size_t got = 0;
  for (char* block; got < 512; ++got) {
    block = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) break;
    memset(block, 1, MIB);
    if (mprotect(block, MIB, got % 2 == 0 ? PROT_READ : PROT_NONE) != 0) break;
  }
  if (got > 64) hole("%zu MiB were had", got);
  if (got < 8) hole("%zu MiB only", got);
  contained("the memory it is given");
}

static void memory_bomb(void) {
  size_t got = 0;
  for (char* block; got < 512 && (block = malloc(MIB)) != NULL; ++got) memset(block, 1, MIB);
  if (got > 64) hole("%zu MiB were had", got);
  if (got < 8) hole("%zu MiB only", got);
  contained("the memory it is given");
}

// With --pids=32. What is left over ends with the session; `run` looks.
static void fork_bomb(void) {
  int made = 0;
  for (; made < 200; ++made) {
    const pid_t child = fork();
    if (child == 0) {
      signal(SIGTERM, SIG_IGN);
      setsid();
      for (;;) pause();
    }
    if (child < 0) break;
  }
  if (made >= 200) hole("%d processes were made", made);
  if (made < 200 && errno != EAGAIN) hole("the error is %d", errno);
  contained("the number of processes it is given");
}

static void descriptor_bomb(void) {
  int last = -1;
  for (int file; (file = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) last = file;
  if (errno != EMFILE) hole("the end of descriptors is error %d", errno);
  refused("a number beyond the limit", dup2(0, last + 1));
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  for (rlim_t number = limit.rlim_max; number < 70000; number += 7) refused("a number of nobody's", dup2(0, (int)number));
  // All but what the verdict goes to.
  if (syscall(SYS_close_range, 3, ~0u, 0) != 0) hole("close_range: %d", errno);
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (file < 0) hole("nothing can be opened any more: %d", errno);
}

// Which numbers answer? Only 0, 1 and 2 were given.
static void descriptor_guess(void) {
  char byte;
  // Each one by tests/victims/descriptor_guess; here those that the runtime has, and some above.
  for (int number = 3; number < 65536; number += number < 8192 ? 1 : 16) {
    if (fcntl(number, F_GETFD) >= 0) hole("number %d answers", number);
    if (number < 300 || number % 64 == 0) {
      refused("a duplicate", dup(number));
      refused("a read", read(number, &byte, 1));
      refused("a write", write(number, "x", 1));
    }
  }
}

static volatile unsigned long handled, sent;
static void count(int signal_number) { handled += signal_number == SIGUSR1; }
// Handlers nest, and the stack is finite: natively, too, nobody survives any number of them.
static void send_signals(void) {
  if (sent - handled >= 40) return;
  ++sent;
  syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
}

static void signal_storm(void) {
  const struct sigaction action = {.sa_handler = count, .sa_flags = SA_NODEFER};
  const struct sigaction timer = {.sa_handler = count};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGALRM, &timer, NULL);
  const struct itimerval fast = {{0, 200}, {0, 200}}, off = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &fast, NULL);
  begin_race(send_signals);
  register uint64_t kept __asm__("r12") = 0x0123456789abcdef;
  double sum = 0;
  for (unsigned long round = 0; still_racing(); ++round) {
    __asm__ volatile("" : "+r"(kept));
    sum += 0.5;
    if (syscall(SYS_getppid) < 0) hole("a call was lost");
    if (kept != 0x0123456789abcdef) hole("a register was lost");
    if (sum != 0.5 * (double)(round + 1)) return hole("vector state was lost");
  }
  setitimer(ITIMER_REAL, &off, NULL);
  end_race();
  if (handled == 0) hole("no signal came");
}

static void return_to_fault(int signal_number) {
  (void)signal_number;
  ++handled;
}
static void fault_for_ever(void) {
  const struct sigaction action = {.sa_handler = return_to_fault};
  sigaction(SIGSEGV, &action, NULL);
  *(volatile char*)RUNTIME_ADDRESS = 1;
}

static void fault_storm(void) {
  const pid_t child = fork();
  if (child == 0) {
    fault_for_ever();
    _exit(0);
  }
  usleep(300000);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) hole("it ended with %x", (unsigned)status);
  contained("the process that faults");
}

const struct attack limit_attacks[] = {
    {"break_extremes", break_extremes},
    {"mapping_flood", mapping_flood},
    {"page_tables", page_tables},
    {"memory_bomb", memory_bomb},
    {"sealed_memory", sealed_memory},
    {"fork_bomb", fork_bomb},
    {"descriptor_bomb", descriptor_bomb},
    {"descriptor_guess", descriptor_guess},
    {"signal_storm", signal_storm},
    {"fault_storm", fault_storm},
    {NULL, NULL},
};
