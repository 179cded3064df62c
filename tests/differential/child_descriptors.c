// Children that are made together with a descriptor of them (CLONE_PIDFD), by fork and by vfork: it is the child's and no other's,
// closed by execve, not the child's own, and its place is looked at before there is a child.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static pid_t by_clone(unsigned long flags, int* place) {
  return (pid_t)syscall(SYS_clone, CLONE_PIDFD | flags | SIGCHLD, NULL, place, NULL, NULL);
}

static pid_t by_clone3(unsigned long flags, int* place) {
  struct clone_args arguments = {
      .flags = CLONE_PIDFD | flags, .pidfd = (unsigned long)place, .exit_signal = SIGCHLD};
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

typedef pid_t make_child(unsigned long flags, int* place);

static int is_readable(int pidfd) {
  struct pollfd poll_it = {.fd = pidfd, .events = POLLIN};
  EXPECT(poll(&poll_it, 1, 0) >= 0);
  return (poll_it.revents & POLLIN) != 0;
}

static void live_and_die(const char* name, make_child* make) {
  int pidfd = -5;
  const int lowest = dup(0);
  EXPECT(lowest >= 0 && close(lowest) == 0);
  const pid_t child = make(0, &pidfd);
  EXPECT(child >= 0);
  if (child == 0) {
    // As it was before: the copy of the memory is older than the descriptor.
    if (pidfd != -5 || fcntl(lowest, F_GETFD) != -1) _exit(1);
    for (;;) pause();
  }
  EXPECT(pidfd == lowest && fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
  EXPECT(!is_readable(pidfd));
  EXPECT(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) == 0);
  siginfo_t info = {0};
  EXPECT(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == child);
  EXPECT(is_readable(pidfd));
  EXPECT(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) == 0);
  printf("%s: ends with %d\n", name, info.si_status);
  EXPECT(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) == -1 && errno == ECHILD);
  EXPECT(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == -1 && errno == ESRCH);
  EXPECT(close(pidfd) == 0);
}

// Nobody has to wait for it, so it can be gone before its parent goes on.
static void ignored(const char* name, make_child* make) {
  signal(SIGCHLD, SIG_IGN);
  int made = 0;
  for (int i = 0; i < 50; ++i) {
    int pidfd = -5;
    const pid_t child = make(0, &pidfd);
    EXPECT(child >= 0);
    if (child == 0) _exit(0);
    struct pollfd poll_it = {.fd = pidfd, .events = POLLIN};
    EXPECT(poll(&poll_it, 1, -1) == 1);
    EXPECT(close(pidfd) == 0);
    ++made;
  }
  printf("%s: %d ignored\n", name, made);
  signal(SIGCHLD, SIG_DFL);
}

static void refused(const char* name, make_child* make) {
  int* const constant = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(constant != MAP_FAILED);
  EXPECT(make(0, constant) == -1 && errno == EFAULT);
  EXPECT(make(0, (int*)8) == -1 && errno == EFAULT);
  int pidfd = -5;
  const unsigned long detached = 0x00400000;
  EXPECT(make(detached, &pidfd) == -1 && errno == EINVAL);
  EXPECT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);  // there never was one

  const int lowest = dup(0);
  close(lowest);
  struct rlimit limit, before;
  EXPECT(getrlimit(RLIMIT_NOFILE, &before) == 0);
  limit = before;
  limit.rlim_cur = (rlim_t)lowest;
  EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  EXPECT(make(0, &pidfd) == -1 && errno == EMFILE);
  EXPECT(setrlimit(RLIMIT_NOFILE, &before) == 0);
  EXPECT(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
  printf("%s: refused\n", name);
}

// What a vforked child finds there, in the memory that it shares, is its parent's number already.
static volatile int shared_place = -5;
static volatile int seen;

static int vforked(void* unused) {
  (void)unused;
  seen = shared_place;
  _exit(4);
}

static void by_vfork(void) {
  static char stack[65536];
  const pid_t child = clone(vforked, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, NULL, &shared_place);
  EXPECT(child > 0);
  siginfo_t info = {0};
  EXPECT(waitid((idtype_t)P_PIDFD, (id_t)shared_place, &info, WEXITED) == 0 && info.si_pid == child);
  printf("vfork: %d, seen: %d\n", info.si_status, seen == shared_place);
  EXPECT(close(shared_place) == 0);
}

int main(void) {
  EXPECT(by_clone(CLONE_PARENT_SETTID, (int*)&shared_place) == -1 && errno == EINVAL);
  const struct {
    const char* name;
    make_child* make;
  } ways[] = {{"clone", by_clone}, {"clone3", by_clone3}};
  for (int i = 0; i < 2; ++i) {
    live_and_die(ways[i].name, ways[i].make);
    ignored(ways[i].name, ways[i].make);
    refused(ways[i].name, ways[i].make);
  }
  by_vfork();
  return 0;
}
