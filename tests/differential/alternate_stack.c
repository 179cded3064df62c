// Handlers on alternate stacks: too small a one, one that is taken away while it is in use, and what may be said of it when.
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "expect.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

enum { kArea = 1 << 16 };
static char* area;  // the lower half is nobody's, the upper half has the stack

static volatile int handled, result, error;
static volatile int is_there;
static stack_t seen;

static void set_stack(size_t bytes, unsigned flags) {
  const stack_t stack = {.ss_sp = area + kArea, .ss_size = bytes, .ss_flags = (int)flags};
  EXPECT(sigaltstack(&stack, NULL) == 0);
}

static void handle(int number, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
  EXPECT(sigaction(number, &action, NULL) == 0);
}

static void look(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  char local;
  is_there = &local >= area + kArea && &local < area + 2 * kArea;
  const stack_t other = {.ss_flags = SS_DISABLE};
  sigaltstack(NULL, &seen);
  result = seen.ss_flags == SS_ONSTACK ? sigaltstack(&other, NULL) : 0;
  error = errno;
  ++handled;
}

static void print_seen(const char* when) {
  printf("%s: there %d, flags %x, %zu bytes, result %d (%d)\n", when, is_there, (unsigned)seen.ss_flags, seen.ss_size,
         result, result == 0 ? 0 : error);
}

static void on_segv(int number, siginfo_t* info, void* context) {
  (void)context;
  size_t changed = 0;
  for (size_t i = 0; i < kArea; ++i) changed += area[i] != 0x5a;
  printf("signal %d, code %d, %zu bytes changed\n", number, info->si_code, changed);
  fflush(stdout);
  _exit(3);
}

// An AVX-512 frame needs more than the smallest stack has; any does when the handler has nested often enough.
static void overflow(int has_handler) {
  if (has_handler) handle(SIGSEGV, on_segv, 0);
  memset(area, 0x5a, kArea);
  const size_t frame = getauxval(AT_MINSIGSTKSZ);
  set_stack(frame / 2 > 2048 ? frame / 2 : 2048, 0);
  handle(SIGUSR1, look, SA_ONSTACK | SA_NODEFER);
  raise(SIGUSR1);
  _exit(frame > 2200 ? 4 : 3);
}

static void nest(int number, siginfo_t* info, void* context) {
  (void)info, (void)context;
  raise(number);
}

static void overflow_by_nesting(int has_handler) {
  if (has_handler) handle(SIGSEGV, on_segv, 0);
  memset(area, 0x5a, kArea);
  set_stack(kArea, 0);
  handle(SIGUSR1, nest, SA_ONSTACK | SA_NODEFER);
  raise(SIGUSR1);
}

// What a handler writes into its frame about the stack counts if it makes sense.
static int bad_flags;
static void change_frame(int number, siginfo_t* info, void* raw) {
  (void)number, (void)info;
  ucontext_t* context = raw;
  if (bad_flags) context->uc_stack.ss_flags = 0x55;
  context->uc_stack.ss_size = 4096;
}

static void change_frames(void) {
  for (bad_flags = 0; bad_flags < 2; ++bad_flags) {
    set_stack(kArea, 0);
    handle(SIGUSR2, change_frame, 0);
    raise(SIGUSR2);
    EXPECT(sigaltstack(NULL, &seen) == 0);
    printf("frame %d: flags %x, %zu bytes\n", bad_flags, (unsigned)seen.ss_flags, seen.ss_size);
  }
}

static void in_a_child(const char* name, void (*what)(int), int argument) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    what(argument);
    _exit(9);
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child);
  printf("%s %d: %x\n", name, argument, (unsigned)status);
}

int main(void) {
  area = mmap(NULL, 2 * kArea, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(area != MAP_FAILED);
  handle(SIGUSR1, look, SA_ONSTACK);
  set_stack(kArea, 0);
  raise(SIGUSR1);
  print_seen("plain");
  set_stack(kArea, SS_ONSTACK | SS_AUTODISARM);
  raise(SIGUSR1);
  print_seen("disarmed");
  EXPECT(handled == 2 && sigaltstack(NULL, &seen) == 0);
  print_seen("after");
  change_frames();
  for (int has_handler = 0; has_handler < 2; ++has_handler) {
    in_a_child("small", overflow, has_handler);
    in_a_child("nested", overflow_by_nesting, has_handler);
  }
  return 0;
}
