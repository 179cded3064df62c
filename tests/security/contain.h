// What the hostile programs share: run something in a signal handler's reach and say what happened.
#ifndef DUNEBOX_TESTS_SECURITY_CONTAIN_H_
#define DUNEBOX_TESTS_SECURITY_CONTAIN_H_

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static sigjmp_buf contain_return;
static int contain_failures;

static void contain_handler(int signal_number) { siglongjmp(contain_return, signal_number); }

// On a stack of its own: the attacks spoil RSP.
static void contain_install(void) {
  static const int kSignals[] = {SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSYS};
  static char stack[65536];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = contain_handler, .sa_flags = SA_ONSTACK | SA_NODEFER};
  for (size_t i = 0; i < sizeof(kSignals) / sizeof(kSignals[0]); ++i) {
    sigaction(kSignals[i], &action, NULL);
  }
}

static void contain_check(int ok, const char* what, long detail) {
  if (ok) return;
  ++contain_failures;
  printf("NOT CONTAINED: %s (%ld)\n", what, detail);
}

// The program and its kernel interface still work. (0: a parent outside of the pid namespace.)
static void contain_alive(const char* after) {
  contain_check(syscall(SYS_getppid) >= 0, after, 0);
}

static int contain_verdict(const char* name) {
  printf("%s: %s\n", name, contain_failures == 0 ? "contained" : "NOT CONTAINED");
  return contain_failures == 0 ? 0 : 1;
}

#endif  // DUNEBOX_TESTS_SECURITY_CONTAIN_H_
