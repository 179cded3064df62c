// Other processes: one outside of the session, which nothing may reach, and its own.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/security/abuse/abuse.h"

static void Tell(const char* what, long result) {
  printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "done");
}

static long PidfdSignal(pid_t process, int signal) {
  const long fd = syscall(SYS_pidfd_open, process, 0);
  if (fd < 0) return -1;
  const long result = syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0);
  close((int)fd);
  return result;
}

static long WriteMemory(pid_t process) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/mem", process);
  const int fd = open(path, O_RDWR);
  if (fd >= 0) close(fd);
  return fd;
}

static long CopyMemory(pid_t process) {
  char byte = 0;
  const struct iovec here = {&byte, 1};
  const struct iovec there = {(void*)&here, 1};
  return syscall(SYS_process_vm_writev, process, &here, 1UL, &there, 1UL, 0UL);
}

// Whatever of this is done is an escape: the driver looks at the process, too.
static void Attack(pid_t victim) {
  Tell("stop", kill(victim, SIGSTOP));
  Tell("kill", kill(victim, SIGKILL));
  Tell("kill its group", kill(-victim, SIGKILL));
  Tell("kill a thread", syscall(SYS_tgkill, victim, victim, SIGKILL));
  Tell("queue", sigqueue(victim, SIGKILL, (union sigval){.sival_int = 0}));
  Tell("pidfd", PidfdSignal(victim, SIGKILL));
  Tell("attach", ptrace(PTRACE_ATTACH, victim, NULL, NULL));
  Tell("seize", ptrace(PTRACE_SEIZE, victim, NULL, NULL));
  Tell("write memory", WriteMemory(victim));
  Tell("copy memory", CopyMemory(victim));
  Tell("priority", setpriority(PRIO_PROCESS, (id_t)victim, 19));
  Tell("limit", prlimit(victim, RLIMIT_CPU, &(struct rlimit){0, 0}, NULL));
}

// Its own may be stopped, continued and killed, and neither traced nor written to.
static void Own(void) {
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  int status = 0;
  Tell("own stop", kill(child, SIGSTOP));
  waitpid(child, &status, WUNTRACED);
  printf("stopped: %d\n", WIFSTOPPED(status));
  Tell("own attach", ptrace(PTRACE_ATTACH, child, NULL, NULL));
  Tell("own write memory", WriteMemory(child));
  Tell("own copy memory", CopyMemory(child));
  Tell("own continue", kill(child, SIGCONT));
  waitpid(child, &status, WCONTINUED);
  printf("continued: %d\n", WIFCONTINUED(status));
  Tell("own kill", kill(child, SIGKILL));
  waitpid(child, &status, 0);
  printf("killed: %d\n", WIFSIGNALED(status));
  Tell("traceme", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

int Siblings(void) {
  const char* const victim = getenv("VICTIM");
  if (victim == NULL) return 1;
  Attack(atoi(victim));
  // Its parent, if it has one to name, and everybody at once. All means all of the session's
  // others.
  const pid_t parent = getppid();
  if (parent > 0) Tell("parent", kill(parent, SIGSTOP));
  Tell("first process", kill(1, SIGKILL));
  (void)kill(-1, SIGSTOP);
  Own();
  return 0;
}
