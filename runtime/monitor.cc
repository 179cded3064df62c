#include "runtime/monitor.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "runtime/session.h"

namespace dunebox::runtime {
namespace {

// What the child's state change means for the monitor.
struct ChildEvent {
  std::optional<int> exit_status;
  bool stopped = false;
};

ChildEvent Reap(pid_t child) {
  int status = 0;
  const pid_t result = waitpid(child, &status, WNOHANG | WUNTRACED);
  if (result != child) return {};
  if (WIFEXITED(status)) return {.exit_status = WEXITSTATUS(status)};
  if (WIFSIGNALED(status)) return {.exit_status = kExitSignalBase + WTERMSIG(status)};
  return {.stopped = WIFSTOPPED(status)};
}

// Waits for the program's end with all signals blocked, taking them one at a time.
int WaitForEnd(pid_t child, const sigset_t& all) {
  for (;;) {
    const ChildEvent event = Reap(child);
    if (event.exit_status) return *event.exit_status;
    if (event.stopped) {
      // Stop as the program did, so that the shell sees the job stopped; continue it with us.
      raise(SIGSTOP);
      kill(child, SIGCONT);
      continue;
    }
    siginfo_t info;
    const int signal = sigwaitinfo(&all, &info);
    // The terminal sends its signals to the program too; what a process sent came to us alone.
    if (signal > 0 && signal != SIGCHLD && info.si_code <= 0) kill(child, signal);
  }
}

}  // namespace

absl::StatusOr<int> RunUnderMonitor(const std::function<void()>& run_program) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  // SIGCHLD inherited as ignored would reap the child behind our back; the program gets it back.
  struct sigaction default_action {};
  struct sigaction child_action;
  default_action.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &default_action, &child_action);

  const pid_t monitor = getpid();
  const pid_t child = fork();
  if (child < 0) {
    const int error = errno;
    sigprocmask(SIG_SETMASK, &before, nullptr);
    return absl::ResourceExhaustedError(absl::StrCat("cannot fork: ", strerror(error)));
  }
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != monitor) _exit(kExitRuntimeError);  // died between fork and prctl
    sigaction(SIGCHLD, &child_action, nullptr);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    run_program();
    _exit(kExitRuntimeError);
  }
  return WaitForEnd(child, all);
}

}  // namespace dunebox::runtime
