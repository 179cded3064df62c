// Children that end with another signal to their parent than SIGCHLD, or with none: who is told, and which wait finds them.
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static volatile sig_atomic_t counts[65];

static void count(int signal) { ++counts[signal]; }

static pid_t by_clone(int signal) { return (pid_t)syscall(SYS_clone, signal, NULL, NULL, NULL, NULL); }

static pid_t by_clone3(int signal) {
  struct clone_args arguments = {.exit_signal = (unsigned long long)signal};
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

static void try_one(const char* name, pid_t (*make)(int), int signal) {
  memset((void*)counts, 0, sizeof(counts));
  pid_t child = make(signal);
  EXPECT(child >= 0);
  if (child == 0) _exit(getpid() != getppid() ? 7 : 1);
  int status = 0;
  if (signal != SIGCHLD) EXPECT(waitpid(child, &status, 0) == -1 && errno == ECHILD);
  EXPECT(waitpid(child, &status, signal == SIGCHLD ? 0 : __WCLONE) == child);
  printf("%s %d: status %d, SIGCHLD %d, SIGUSR1 %d, %d: %d\n", name, signal, WEXITSTATUS(status), counts[SIGCHLD], counts[SIGUSR1],
         signal, counts[signal]);
}

int main(void) {
  for (int signal = 1; signal <= 64; ++signal) {
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(signal, &action, NULL);
  }
  const int signals[] = {0, SIGCHLD, SIGUSR1, SIGTERM, 34, 64};
  for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); ++i) {
    try_one("clone", by_clone, signals[i]);
    try_one("clone3", by_clone3, signals[i]);
  }
  EXPECT(by_clone3(65) == -1 && errno == EINVAL);
  // __WALL finds all of them, and a child of such a child has its own parent.
  pid_t child = by_clone(0);
  if (child == 0) {
    pid_t grandchild = by_clone(SIGUSR1);
    if (grandchild == 0) _exit(3);
    int status;
    _exit(waitpid(grandchild, &status, __WALL) == grandchild && WEXITSTATUS(status) == 3 ? 4 : 5);
  }
  int status;
  EXPECT(waitpid(-1, &status, __WALL) == child);
  printf("grandchild: %d\n", WEXITSTATUS(status));
  return 0;
}
