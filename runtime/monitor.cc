#include "runtime/monitor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "runtime/confinement/cgroup.h"
#include "runtime/confinement/mechanisms.h"
#include "runtime/file_descriptor.h"
#include "runtime/kill_tree.h"
#include "runtime/limits/limit_watch.h"
#include "runtime/session.h"

namespace dunebox::runtime {
namespace {

// What the child's state change means for the one who waits.
struct ChildEvent {
  std::optional<SessionEnd> end;
  bool stopped = false;
};

// Takes one state change of any child. Orphans that a subreaper inherits are only buried, as strangers are.
std::optional<ChildEvent> Reap(pid_t child, Strangers& strangers) {
  int status = 0;
  const pid_t result = waitpid(-1, &status, WNOHANG | WUNTRACED);
  if (result <= 0) return std::nullopt;
  if (result != child) {
    if (!WIFSTOPPED(status)) strangers.Forget(result);
    return ChildEvent{};
  }
  if (WIFEXITED(status)) return ChildEvent{.end = SessionEnd{.exit_status = WEXITSTATUS(status)}};
  if (WIFSIGNALED(status)) {
    return ChildEvent{.end = SessionEnd{.reason = EndReason::kSignaled,
                                        .exit_status = kExitSignalBase + WTERMSIG(status),
                                        .signal = WTERMSIG(status)}};
  }
  return ChildEvent{.stopped = WIFSTOPPED(status)};
}

// Of the pid namespace that it was started in, as in a container.
bool IsFirstProcess() { return getpid() == 1; }

// Job control. The program stops, the monitor stops as it did, so that the shell sees the job
// stopped, and when the monitor is continued so is the program. The guardian in between does not
// stop: it keeps the limits, also of those processes that did not stop.
class Stops {
 public:
  // One for both: shared with what is forked later.
  static absl::StatusOr<Stops> Create() {
    void* const page = mmap(nullptr, sizeof(std::atomic<bool>), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
      return errors::Named(errors::Id::kNoMemory, absl::ErrnoToStatus(errno, "cannot map a page"));
    }
    return Stops(new (page) std::atomic<bool>(false));
  }

  // In the guardian.
  void Tell(pid_t monitor) const {
    told_->store(true);
    kill(monitor, SIGCHLD);
  }
  // In the monitor: stops, if the program did. The first process of a pid namespace cannot stop itself,
  // and so would continue the program at once.
  void Follow(pid_t guardian) const {
    if (!told_->exchange(false) || IsFirstProcess()) return;
    raise(SIGSTOP);
    told_->store(false);  // whatever stopped meanwhile is continued, too
    kill(guardian, SIGCONT);
  }

 private:
  explicit Stops(std::atomic<bool>* told) : told_(told) {}
  std::atomic<bool>* told_;  // for the life of both
};

enum class Role : unsigned char { kMonitor, kGuardian };

// Waits for the child's end, or for a limit, with all signals blocked, taking them one at a time.
// Nothing when our own parent, `parent`, is gone.
std::optional<SessionEnd> WaitForEnd(Role role, pid_t child, pid_t parent, const Stops& stops,
                                     LimitWatch& watch, Strangers& strangers) {
  sigset_t all;
  sigfillset(&all);
  for (;;) {
    if (getppid() != parent) return std::nullopt;
    if (const std::optional<ChildEvent> event = Reap(child, strangers)) {
      if (event->end) return event->end;
      if (event->stopped && role == Role::kGuardian) stops.Tell(parent);
      continue;
    }
    if (role == Role::kMonitor) stops.Follow(child);
    if (const std::optional<EndReason> reached = watch.Reached()) {
      return SessionEnd{.reason = *reached, .exit_status = kExitLimit};
    }
    siginfo_t info;
    const int signal = sigtimedwait(&all, &info, watch.Pause());
    if (signal <= 0 || signal == SIGCHLD) continue;
    // It is Follow that passes this on.
    if (signal == SIGCONT && role == Role::kMonitor && !IsFirstProcess()) continue;
    // The terminal sends its signals to the program too; what a process sent came to us alone.
    const bool sent = info.si_code <= 0;
    if (sent && (role == Role::kMonitor || info.si_pid == parent)) kill(child, signal);
  }
}

absl::Status ForkError() {
  return errors::Named(errors::Id::kNoProcess, absl::ResourceExhaustedError(
                                                   absl::StrCat("cannot fork: ", strerror(errno))));
}

// What the caller had, for the program to inherit.
struct Inherited {
  sigset_t mask;
  struct sigaction on_child;
};

// How the guardian tells the monitor what its exit status cannot say.
struct EndPipe {
  FileDescriptor read_end;
  FileDescriptor write_end;

  static absl::StatusOr<EndPipe> Create() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
      return errors::Named(errors::Id::kNoProcess, absl::ErrnoToStatus(errno, "cannot make a pipe"));
    }
    return EndPipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
  }
  void Close() {
    read_end = FileDescriptor();
    write_end = FileDescriptor();
  }
  struct Message {
    SessionEnd end;
    bool is_alone;  // nothing of the session's is left
  };
  void Tell(const Message& message) const {
    // Smaller than a pipe: written whole. Without it the monitor still has the exit status.
    [[maybe_unused]] const ssize_t written = write(write_end.get(), &message, sizeof(message));
  }
  std::optional<Message> Told() const {
    Message message;
    if (read(read_end.get(), &message, sizeof(message)) != ssize_t{sizeof(message)}) return std::nullopt;
    return message;
  }
};

// In the guardian. What it cannot end, its own end does: the kernel kills the program and the first process with it, and
// whatever is below them becomes the monitor's, which tries as well and says so. False: there may be something.
bool EndWhatIsBelow() { return KillTree().ok(); }

[[noreturn]] void GiveUp(const absl::Status& status) {
  errors::Say(errors::Id::kNoProcess, status);
  EndWhatIsBelow();
  _exit(kExitRuntimeError);
}

// The session's control group; nothing when it has none.
using Group = std::optional<confinement::Cgroup>;

// Limits on the whole tree are better kept by the kernel. Where there is no place for a group they
// are kept as without confinement.
absl::StatusOr<Group> MakeGroup(const MonitorOptions& options) {
  const SessionLimits& limits = options.limits;
  const bool is_of_use = limits.memory || limits.tasks || limits.cpu_time;
  const bool is_needed = confinement::NeedFor(options.plan, confinement::Mechanism::kCgroup).has_value();
  if (!options.plan.confine || (!is_of_use && !is_needed)) return Group();
  absl::StatusOr<confinement::Cgroup> group =
      confinement::Cgroup::Create({.memory = limits.memory, .tasks = limits.tasks});
  if (group.ok()) return Group(*std::move(group));
  const absl::Status status =
      confinement::LeaveOut(options.plan, confinement::Mechanism::kCgroup, group.status());
  if (!status.ok()) return status;
  return Group();
}

LimitWatch WatchFor(const MonitorOptions& options, const Group& group) {
  LimitWatch::CpuClock cpu_clock;
  if (group) cpu_clock = [&group = *group] { return group.CpuTime(); };
  return LimitWatch(options.limits, options.is_output_full, std::move(cpu_clock));
}

// The tree is dead: what the kernel says about its end.
void LookAtGroup(const Group& group, SessionEnd& end) {
  if (group && end.signal == SIGKILL && group->RanOutOfMemory()) end.reason = EndReason::kMemory;
}

// What the kernel does to a program that writes more than --fsize, unless it wants an errno.
void LookAtSignal(const SessionLimits& limits, SessionEnd& end) {
  if (limits.file_size && end.signal == SIGXFSZ) end.reason = EndReason::kFileSize;
}

// In the program's process.
[[noreturn]] void BecomeProgram(pid_t guardian, const Inherited& inherited, Group& group,
                                confinement::Namespaces& namespaces,
                                const RunProgram& run_program) {
  if (group) {
    if (absl::Status status = group->Enter(); !status.ok()) GiveUp(status);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Died between fork and prctl? In a pid namespace its death is that of the first process, too.
  if (!namespaces.Has(confinement::Mechanism::kPidNamespace) && getppid() != guardian) {
    _exit(kExitRuntimeError);
  }
  sigaction(SIGCHLD, &inherited.on_child, nullptr);
  sigprocmask(SIG_SETMASK, &inherited.mask, nullptr);
  run_program(namespaces);
  _exit(kExitRuntimeError);
}

// In the guardian's process.
[[noreturn]] void BecomeGuardian(pid_t monitor, const Inherited& inherited, EndPipe& pipe,
                                 const Stops& stops, const MonitorOptions& options, Group& group,
                                 const RunProgram& run_program) {
  LimitWatch watch = WatchFor(options, group);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, SIGHUP);  // any signal: it wakes WaitForEnd, which looks for its parent
  const pid_t guardian = getpid();
  absl::StatusOr<confinement::Namespaces> namespaces =
      confinement::Namespaces::Create(options.plan, options.plan_without_view);
  if (!namespaces.ok()) GiveUp(namespaces.status());
  const pid_t program = fork();
  if (program < 0) GiveUp(ForkError());
  if (program == 0) {
    pipe.Close();
    BecomeProgram(guardian, inherited, group, *namespaces, run_program);
  }
  namespaces->LeaveToChild();
  Strangers none;
  std::optional<SessionEnd> end = WaitForEnd(Role::kGuardian, program, monitor, stops, watch, none);
  const bool is_alone = EndWhatIsBelow();
  if (end) LookAtGroup(group, *end);
  if (end) LookAtSignal(options.limits, *end);
  if (group) group->Remove();
  if (!end) _exit(kExitRuntimeError);
  pipe.Tell({.end = *end, .is_alone = is_alone});
  kill(monitor, SIGCONT);  // one that stopped with the program has to see the end
  _exit(end->exit_status);
}

}  // namespace

absl::StatusOr<SessionEnd> RunUnderMonitor(const MonitorOptions& options,
                                           const RunProgram& run_program) {
  absl::StatusOr<EndPipe> pipe = EndPipe::Create();
  if (!pipe.ok()) return pipe.status();
  absl::StatusOr<Strangers> strangers = Strangers::Note();
  if (!strangers.ok()) return strangers.status();
  sigset_t all;
  Inherited inherited;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &inherited.mask);
  // SIGCHLD inherited as ignored would reap children behind our back; the program gets it back.
  struct sigaction default_action {};
  default_action.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &default_action, &inherited.on_child);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t parent = getppid();
  // SIGCHLD: it wakes WaitForEnd, which looks for its parent, and is passed on to nobody.
  if (options.die_with_parent) prctl(PR_SET_PDEATHSIG, SIGCHLD);

  absl::StatusOr<Group> group = MakeGroup(options);
  if (!group.ok()) return group.status();
  const absl::StatusOr<Stops> stops = Stops::Create();
  if (!stops.ok()) return stops.status();
  const pid_t monitor = getpid();
  const pid_t guardian = fork();
  if (guardian < 0) return ForkError();
  if (guardian == 0)
    BecomeGuardian(monitor, inherited, *pipe, *stops, options, *group, run_program);
  pipe->write_end = FileDescriptor();
  LimitWatch no_limits({});
  std::optional<SessionEnd> end = WaitForEnd(Role::kMonitor, guardian, parent, *stops, no_limits, *strangers);
  // A program started by a shell that ended goes on, as natively.
  while (!end && !options.die_with_parent) {
    end = WaitForEnd(Role::kMonitor, guardian, getppid(), *stops, no_limits, *strangers);
  }
  const std::optional<EndPipe::Message> told = pipe->Told();
  // Only when the guardian did not come to it. While it lived, what the session's processes left behind was its own.
  const absl::Status ended = told && told->is_alone ? absl::OkStatus() : KillTree(*std::move(strangers));
  if (*group) (*group)->Remove();
  if (!ended.ok()) return ended;
  if (!end) return SessionEnd{.reason = EndReason::kParentGone, .exit_status = kExitRuntimeError};
  return told ? told->end : *end;
}

}  // namespace dunebox::runtime
