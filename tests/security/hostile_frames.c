// Comes back from signal handlers with forged frames, and puts stacks where frames cannot go.
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "contain.h"

enum forgery {
  kPrivilegedSelectors, kFlags, kRuntimeRip, kNonCanonicalRip, kSupervisorRip, kRuntimeState,
  kBadFeatures, kCompactFormat, kReservedMxcsr, kOddState, kForgeries
};

static int forgery;

static void forge(int signal_number, siginfo_t* info, void* raw) {
  (void)signal_number, (void)info;
  ucontext_t* context = raw;
  greg_t* registers = context->uc_mcontext.gregs;
  unsigned char* state = (unsigned char*)context->uc_mcontext.fpregs;
  switch (forgery) {
    case kPrivilegedSelectors: registers[REG_CSGSFS] = 0x0010000000000008; break;
    case kFlags: registers[REG_EFL] |= 0x3000 | 0x4000 | 0x20000 | 0x100000 | 0x80000; break;
    case kRuntimeRip: registers[REG_RIP] = 0x7f0000001000; break;
    case kNonCanonicalRip: registers[REG_RIP] = (greg_t)0x8000000000001000; break;
    case kSupervisorRip: registers[REG_RIP] = (greg_t)0xffffff8000000278; break;
    case kRuntimeState: context->uc_mcontext.fpregs = (void*)0x7f0000000000; break;
    case kBadFeatures: memset(state + 512, 0xff, 8); break;
    case kCompactFormat: state[527] = 0x80; break;
    case kReservedMxcsr: memset(state + 24, 0xff, 4); break;
    case kOddState: context->uc_mcontext.fpregs = (void*)((uintptr_t)state + 1); break;
    default: break;
  }
}

static int run_in_child(void (*attack)(void)) {
  const pid_t child = fork();
  if (child == 0) {
    attack();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

static void return_from_forged(void) {
  alarm(5);
  struct sigaction action = {.sa_sigaction = forge, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);
  // Came back: still ring 3, still an ordinary process.
  unsigned short selector;
  __asm__ volatile("mov %%cs, %0" : "=r"(selector));
  uint64_t flags;
  __asm__ volatile("pushfq; popq %0" : "=r"(flags));
  _exit((selector & 3) == 3 && (flags & 0x3000) == 0 ? 0 : 9);
}

static uint64_t stack_address;

static void handle_quietly(int signal_number) { (void)signal_number; }

static void take_signal_there(void) {
  alarm(5);
  signal(SIGUSR1, handle_quietly);
  const long pid = getpid();
  __asm__ volatile("movq %0, %%rsp\n\tmovq $62, %%rax\n\tsyscall\n\tmovq $231, %%rax\n\txorl %%edi, %%edi\n\tsyscall"
                   : : "r"(stack_address), "D"(pid), "S"((long)SIGUSR1) : "rax", "rcx", "r11", "memory");
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  for (forgery = 0; forgery < kForgeries; ++forgery) {
    const int status = run_in_child(return_from_forged);
    const int fine = (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                     (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    contain_check(fine, "a forged frame", forgery * 1000 + status);
  }
  const uint64_t stacks[] = {0, 64, 0x7f0000001000, 0x7ffffffff000, 0x400000000100, 0x8000000000000000,
                             0xffffff8000002800};
  for (size_t i = 0; i < sizeof(stacks) / sizeof(stacks[0]); ++i) {
    stack_address = stacks[i];
    const int status = run_in_child(take_signal_there);
    contain_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a frame on a bad stack",
                  (long)i * 1000 + status);
  }
  contain_alive("forged frames");
  return contain_verdict("hostile_frames");
}
