// Runs a command and makes one of its system calls fail: the Nth that it, its threads and its children enter, in the order in
// which they do. The call is not made (but for close, which closes in any case); it returns an error that the kernel could have
// given. What may happen then is for the caller (`every_call`) to judge; this only reports.
//
//   fail_call NUMBER SECONDS REPORT COMMAND [ARGUMENT...]     # NUMBER 0: none fails, all are counted
//
// REPORT gets one line: calls=N failed=NAME error=NUMBER process=N hung=0|1 left=N. `process` counts in the order in which processes appear,
// `left` are processes that were still there two seconds after the command's own end. The exit status is the command's, 128+N for
// a signal. Calls that cannot fail (getpid, exit, ...) are not counted. Needs Linux 5.3 (PTRACE_GET_SYSCALL_INFO), see ptrace(2).
#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

namespace {

constexpr int kSecondsToEnd = 2;

volatile sig_atomic_t is_over = 0;

// Asks, and changes nothing: a refusal is an answer.
bool IsQuestion(std::uint64_t number, const std::uint64_t* arguments) {
  return (number == SYS_seccomp && (arguments[0] != SECCOMP_SET_MODE_FILTER || arguments[2] == 0)) ||
         (number == SYS_landlock_create_ruleset && arguments[2] != 0);
}

// The calls that have no way to say that they failed, and the first ones of the C library, which ends the process by itself.
bool CannotFail(std::uint64_t number, const std::uint64_t* arguments) {
  static const std::set<std::uint64_t> calls = {
      SYS_exit,    SYS_exit_group, SYS_rt_sigreturn, SYS_getpid,       SYS_gettid,          SYS_getppid,
      SYS_getuid,  SYS_geteuid,    SYS_getgid,       SYS_getegid,      SYS_umask,           SYS_set_tid_address,
      SYS_brk,     SYS_arch_prctl, SYS_alarm,        SYS_restart_syscall, SYS_sched_yield,  SYS_personality,
      SYS_futex,
  };
  return calls.contains(number) || (number == SYS_wait4 && (arguments[2] & WNOHANG) != 0);
}

// What the kernel would most likely say.
int ErrorOf(std::uint64_t number) {
  static const std::map<std::uint64_t, int> errors = {
      {SYS_mmap, ENOMEM},     {SYS_munmap, ENOMEM},       {SYS_mprotect, ENOMEM},  {SYS_mremap, ENOMEM},
      {SYS_madvise, ENOMEM},  {SYS_clone, EAGAIN},        {SYS_clone3, EAGAIN},    {SYS_fork, EAGAIN},
      {SYS_vfork, EAGAIN},    {SYS_open, EMFILE},         {SYS_openat, EMFILE},    {SYS_openat2, EMFILE},
      {SYS_pipe, EMFILE},     {SYS_pipe2, EMFILE},        {SYS_dup, EMFILE},       {SYS_dup2, EMFILE},
      {SYS_dup3, EMFILE},     {SYS_fcntl, EMFILE},        {SYS_socket, EMFILE},    {SYS_socketpair, EMFILE},
      {SYS_memfd_create, EMFILE}, {SYS_pidfd_open, EMFILE}, {SYS_eventfd2, EMFILE}, {SYS_signalfd4, EMFILE},
      {SYS_timerfd_create, EMFILE}, {SYS_epoll_create1, EMFILE}, {SYS_ftruncate, ENOSPC}, {SYS_write, ENOSPC},
      {SYS_pwrite64, ENOSPC}, {SYS_writev, ENOSPC},       {SYS_prlimit64, EPERM},  {SYS_setrlimit, EPERM},
      {SYS_prctl, EINVAL},    {SYS_unshare, EPERM},       {SYS_setns, EPERM},      {SYS_mount, EPERM},
      {SYS_pivot_root, EPERM}, {SYS_seccomp, EINVAL},     {SYS_capset, EPERM},     {SYS_kill, EPERM},
      {SYS_landlock_create_ruleset, ENOSYS}, {SYS_landlock_add_rule, EINVAL}, {SYS_landlock_restrict_self, E2BIG},
      {SYS_execve, ENOMEM},   {SYS_rt_sigaction, EINVAL}, {SYS_rt_sigprocmask, EINVAL}, {SYS_wait4, EINTR},
      {SYS_ioctl, ENOMEM},    {SYS_close_range, EINVAL},  {SYS_rt_sigtimedwait, EINTR}, {SYS_sigaltstack, EINVAL},
  };
  const auto found = errors.find(number);
  return found == errors.end() ? EIO : found->second;
}

struct Report {
  std::uint64_t calls = 0;
  std::uint64_t failed = ~std::uint64_t{0};
  int error = 0;
  int process = 0;
  bool is_question = false;
};

class Tracer {
 public:
  Tracer(std::uint64_t chosen, pid_t first) : chosen_(chosen), first_(first) {}

  // Until the command and all that it left is gone, or it is time.
  void Run() {
    while (!tracees_.empty() || !first_ended_) {
      int status = 0;
      const pid_t task = waitpid(-1, &status, __WALL);
      if (is_over != 0) break;
      if (task < 0 && errno == EINTR) continue;
      if (task < 0) break;
      Handle(task, status);
    }
  }

  // Those that are there when everything should be over.
  std::size_t KillAll() {
    const std::size_t left = tracees_.size();
    for (const pid_t task : tracees_) kill(task, SIGKILL);
    if (!first_ended_) kill(first_, SIGKILL);
    return left;
  }

  bool first_ended() const { return first_ended_; }
  int status() const { return status_; }
  const Report& report() const { return report_; }

 private:
  void Handle(pid_t task, int status) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      tracees_.erase(task);
      if (task != first_) return;
      first_ended_ = true;
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      if (!tracees_.empty()) alarm(kSecondsToEnd);
      return;
    }
    if (tracees_.insert(task).second) order_.emplace(task, static_cast<int>(order_.size()) + 1);
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;
    if (signal == (SIGTRAP | 0x80)) {
      HandleCall(task);
    } else if (event == PTRACE_EVENT_EXEC) {
      counts_ = true;
    } else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
      ptrace(PTRACE_LISTEN, task, 0, 0);  // stopped by a signal, as without a tracer
      return;
    } else if (event == 0) {
      ptrace(PTRACE_SYSCALL, task, 0, signal);
      return;
    }
    ptrace(PTRACE_SYSCALL, task, 0, 0);
  }

  void HandleCall(pid_t task) {
    __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task, sizeof(info), &info) <= 0) return;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
      if (!counts_ || CannotFail(info.entry.nr, info.entry.args) || ++report_.calls != chosen_) return;
      report_.failed = info.entry.nr;
      report_.error = ErrorOf(info.entry.nr);
      report_.process = order_[task];
      report_.is_question = IsQuestion(info.entry.nr, info.entry.args);
      changed_ = task;
      if (info.entry.nr == SYS_close) return;
      user_regs_struct registers;
      ptrace(PTRACE_GETREGS, task, 0, &registers);
      registers.orig_rax = SYS_gettid;  // seccomp sees the number, and lets this one pass
      ptrace(PTRACE_SETREGS, task, 0, &registers);
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && task == changed_) {
      changed_ = 0;
      user_regs_struct registers;
      ptrace(PTRACE_GETREGS, task, 0, &registers);
      registers.rax = static_cast<unsigned long long>(-report_.error);
      ptrace(PTRACE_SETREGS, task, 0, &registers);
    }
  }

  const std::uint64_t chosen_;
  const pid_t first_;
  pid_t changed_ = 0;
  bool counts_ = false;  // from the command's own execve on
  bool first_ended_ = false;
  int status_ = 0;
  Report report_;
  std::set<pid_t> tracees_;
  std::map<pid_t, int> order_;
};

pid_t Start(char** command) {
  int go[2];
  if (pipe2(go, O_CLOEXEC) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    if (read(go[0], &byte, 1) != 1) _exit(1);
    execv(command[0], command);
    _exit(127);
  }
  constexpr long kOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                            PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
  if (ptrace(PTRACE_SEIZE, child, 0, kOptions) != 0) return -1;
  ptrace(PTRACE_INTERRUPT, child, 0, 0);
  if (write(go[1], "", 1) != 1) return -1;
  close(go[0]);
  close(go[1]);
  return child;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fputs("usage: fail_call NUMBER SECONDS REPORT COMMAND [ARGUMENT...]\n", stderr);
    return 2;
  }
  struct sigaction action = {};
  action.sa_handler = [](int) { is_over = 1; };
  sigaction(SIGALRM, &action, nullptr);
  const pid_t child = Start(argv + 4);
  if (child < 0) {
    std::perror("fail_call: ptrace");
    return 77;
  }
  alarm(static_cast<unsigned>(std::atoi(argv[2])));
  Tracer tracer(std::strtoull(argv[1], nullptr, 10), child);
  tracer.Run();
  const bool hung = !tracer.first_ended();
  const std::size_t left = tracer.KillAll();
  const Report& report = tracer.report();
  char* const name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, static_cast<int>(report.failed));
  std::FILE* const file = std::fopen(argv[3], "w");
  if (file == nullptr) return 2;
  std::fprintf(file, "calls=%lu failed=%s%s error=%d process=%d hung=%d left=%zu\n", report.calls, name == nullptr ? "none" : name,
               report.is_question ? "(question)" : "", report.error, report.process, hung ? 1 : 0, hung ? 0 : left);
  std::fclose(file);
  std::free(name);
  return hung ? 124 : tracer.status();
}
