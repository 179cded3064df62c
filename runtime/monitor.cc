#include "runtime/monitor.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/session.h"
#include "runtime/text_file.h"

namespace dunebox::runtime {
namespace {

// What the child's state change means for the one who waits.
struct ChildEvent {
  std::optional<int> exit_status;
  bool stopped = false;
};

// Takes one state change of any child. Orphans that a subreaper inherits are only buried.
std::optional<ChildEvent> Reap(pid_t child) {
  int status = 0;
  const pid_t result = waitpid(-1, &status, WNOHANG | WUNTRACED);
  if (result <= 0) return std::nullopt;
  if (result != child) return ChildEvent{};
  if (WIFEXITED(status)) return ChildEvent{.exit_status = WEXITSTATUS(status)};
  if (WIFSIGNALED(status)) return ChildEvent{.exit_status = kExitSignalBase + WTERMSIG(status)};
  return ChildEvent{.stopped = WIFSTOPPED(status)};
}

// The processes whose parent we are.
void KillChildren() {
  const absl::StatusOr<std::string> children =
      ReadTextFile(absl::StrCat("/proc/self/task/", gettid(), "/children"));
  if (!children.ok()) return;
  for (absl::string_view word : absl::StrSplit(*children, ' ', absl::SkipEmpty())) {
    pid_t child = 0;
    if (absl::SimpleAtoi(word, &child)) kill(child, SIGKILL);
  }
}

// Ends everything below this process, which is a subreaper: the children of what dies become ours.
void KillTree() {
  KillChildren();
  // Each death may bring new children; ECHILD means that there are none left.
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) KillChildren();
}

// Whose signals are passed on to the child.
enum class PassOn : unsigned char { kFromAnybody, kFromParent };

// Waits for the child's end with all signals blocked, taking them one at a time. Nothing when our
// own parent, `parent`, is gone.
std::optional<int> WaitForEnd(pid_t child, pid_t parent, PassOn pass_on) {
  sigset_t all;
  sigfillset(&all);
  for (;;) {
    if (getppid() != parent) return std::nullopt;
    if (const std::optional<ChildEvent> event = Reap(child)) {
      if (event->exit_status) return event->exit_status;
      if (event->stopped) {
        // Stop as the program did, so that the shell sees the job stopped; continue it with us.
        raise(SIGSTOP);
        kill(child, SIGCONT);
      }
      continue;
    }
    siginfo_t info;
    const int signal = sigwaitinfo(&all, &info);
    if (signal <= 0 || signal == SIGCHLD || signal == SIGCONT) continue;
    // The terminal sends its signals to the program too; what a process sent came to us alone.
    const bool sent = info.si_code <= 0;
    if (sent && (pass_on == PassOn::kFromAnybody || info.si_pid == parent)) kill(child, signal);
  }
}

absl::Status ForkError() {
  return absl::ResourceExhaustedError(absl::StrCat("cannot fork: ", strerror(errno)));
}

// What the caller had, for the program to inherit.
struct Inherited {
  sigset_t mask;
  struct sigaction on_child;
};

// In the program's process.
[[noreturn]] void BecomeProgram(pid_t guardian, const Inherited& inherited,
                                const std::function<void()>& run_program) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != guardian) _exit(kExitRuntimeError);  // died between fork and prctl
  sigaction(SIGCHLD, &inherited.on_child, nullptr);
  sigprocmask(SIG_SETMASK, &inherited.mask, nullptr);
  run_program();
  _exit(kExitRuntimeError);
}

// In the guardian's process.
[[noreturn]] void BecomeGuardian(pid_t monitor, const Inherited& inherited,
                                 const std::function<void()>& run_program) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, SIGHUP);  // any signal: it wakes WaitForEnd, which looks for its parent
  const pid_t guardian = getpid();
  const pid_t program = fork();
  if (program < 0) {
    const std::string line = absl::StrCat("dunebox: ", ForkError().message(), "\n");
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
    _exit(kExitRuntimeError);
  }
  if (program == 0) BecomeProgram(guardian, inherited, run_program);
  const std::optional<int> end = WaitForEnd(program, monitor, PassOn::kFromParent);
  KillTree();
  _exit(end.value_or(kExitRuntimeError));
}

}  // namespace

absl::StatusOr<int> RunUnderMonitor(const std::function<void()>& run_program) {
  sigset_t all;
  Inherited inherited;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &inherited.mask);
  // SIGCHLD inherited as ignored would reap children behind our back; the program gets it back.
  struct sigaction default_action {};
  default_action.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &default_action, &inherited.on_child);
  prctl(PR_SET_CHILD_SUBREAPER, 1);

  const pid_t monitor = getpid();
  const pid_t guardian = fork();
  if (guardian < 0) return ForkError();
  if (guardian == 0) BecomeGuardian(monitor, inherited, run_program);
  // Our own parent may go away: a program started by a shell that ended goes on, as natively.
  std::optional<int> end;
  while (!end) end = WaitForEnd(guardian, getppid(), PassOn::kFromAnybody);
  KillTree();  // only when the guardian did not come to it
  return *end;
}

}  // namespace dunebox::runtime
