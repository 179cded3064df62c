#include "sandbox/oci/commands.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "hostcalls/errors/message.h"
#include "runtime/session.h"
#include "sandbox/oci/cgroups.h"
#include "sandbox/oci/channel.h"
#include "sandbox/oci/create.h"
#include "sandbox/oci/features.h"
#include "sandbox/oci/hooks.h"
#include "sandbox/oci/state.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

using runtime::FileDescriptor;

absl::Status Failed(std::string_view what) {
  return absl::ErrnoToStatus(errno, absl::string_view(what.data(), what.size()));
}

absl::Status WrongStatus(const State& state, std::string_view what) {
  return absl::FailedPreconditionError(
      fmt::format("container \"{}\" is {}: {}", state.id, NameOf(state.status), what));
}

absl::Status Print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return absl::OkStatus();
  return Failed("cannot write to standard output");
}

// A container that nobody else changes meanwhile.
struct Held {
  ContainerDirectory directory;
  FileDescriptor lock;
  State state;

  static absl::StatusOr<Held> Of(const Command& command) {
    absl::StatusOr<ContainerDirectory> directory =
        ContainerDirectory::Open(command.root, command.id);
    if (!directory.ok()) return directory.status();
    absl::StatusOr<FileDescriptor> lock = directory->Lock();
    if (!lock.ok()) return lock.status();
    absl::StatusOr<State> state = directory->Load();
    if (!state.ok()) return state.status();
    return Held{*std::move(directory), *std::move(lock), *std::move(state)};
  }
  void Release() { lock = FileDescriptor(); }
};

// The same as it is just now: for who does not change it, and is not to wait for hooks that do not end.
absl::StatusOr<State> Seen(const Command& command) {
  const absl::StatusOr<ContainerDirectory> directory =
      ContainerDirectory::Open(command.root, command.id);
  return directory.ok() ? directory->Load() : directory.status();
}

// ---- start --------------------------------------------------------------------------------------

absl::Status AskForStart(const ContainerDirectory& directory) {
  sockaddr_un address{.sun_family = AF_UNIX};
  directory.SocketPath().copy(address.sun_path, sizeof(address.sun_path) - 1);
  FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.valid() ||
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return Failed("cannot reach the container's process");
  }
  const Channel channel(std::move(socket));
  if (!channel.Send({Step::kStart})) return Failed("cannot reach the container's process");
  return channel.Expect(Step::kStarted);
}

absl::Status Start(const Command& command, const Log& log) {
  absl::StatusOr<Held> held = Held::Of(command);
  if (!held.ok()) return held.status();
  State& state = held->state;
  if (state.status != Status::kCreated)
    return WrongStatus(state, "only a created one can be started");
  if (absl::Status status = AskForStart(held->directory); !status.ok()) return status;
  state.status = Status::kRunning;
  if (absl::Status status = held->directory.Save(state); !status.ok()) return status;
  const absl::StatusOr<std::string> text = held->directory.LoadConfig();
  if (!text.ok()) return text.status();
  absl::StatusOr<Config> config = ParseConfig(*text, "config.json");
  if (!config.ok()) return errors::Named(errors::Id::kBadConfig, config.status());
  held->Release();
  // [OCI runtime.md "Lifecycle" 9] It runs whatever they say.
  const absl::Status hooks = RunHooks(config->hooks, HookPoint::kPoststart, StateJson(state));
  if (!hooks.ok()) log.Warning(std::string(hooks.message()));
  return absl::OkStatus();
}

// ---- kill ---------------------------------------------------------------------------------------

// The inode of a process's pid namespace; 0: it is gone.
ino_t PidNamespaceOf(pid_t pid) {
  struct stat info;
  return stat(fmt::format("/proc/{}/ns/pid", pid).c_str(), &info) == 0 ? info.st_ino : 0;
}

// What is asked about gets the signal: an id may be another process's by then.
void SignalIfIn(ino_t pid_namespace, pid_t pid, int signal) {
  const FileDescriptor process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (process.valid() && PidNamespaceOf(pid) == pid_namespace) {
    syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0);
  }
}

void SignalNamespace(pid_t first, int signal) {
  const ino_t wanted = PidNamespaceOf(first);
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir("/proc"), closedir);
  // Never our own, whatever has the id meanwhile.
  if (listing == nullptr || wanted == 0 || wanted == PidNamespaceOf(getpid())) return;
  while (const dirent* entry = readdir(listing.get())) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry->d_name, &pid) && pid > 1) SignalIfIn(wanted, pid, signal);
  }
}

absl::Status Kill(const Command& command) {
  const std::optional<int> signal = SignalFrom(command.signal);
  if (!signal) {
    return absl::InvalidArgumentError(
        fmt::format("{} is not a signal", policy::Quoted(command.signal)));
  }
  const absl::StatusOr<State> seen = Seen(command);
  if (!seen.ok()) return seen.status();
  const State& state = *seen;
  const bool has_process = state.status == Status::kCreated || state.status == Status::kRunning;
  if (command.all) {
    const Cgroups groups(state.cgroups);
    if (has_process && state.has_own_processes) {
      SignalNamespace(state.process.pid, *signal);
    } else if (!state.cgroups.empty()) {
      groups.Signal(*signal);
    } else if (has_process) {
      return state.process.Signal(*signal);
    }
    return absl::OkStatus();
  }
  if (!has_process) return WrongStatus(state, "there is no process to send a signal to");
  // Who cannot be stopped would be the container's first process, and not its program.
  if (*signal == SIGSTOP) {
    return absl::UnimplementedError("SIGSTOP cannot be passed on to the program; TSTP can");
  }
  return state.process.Signal(*signal);
}

// ---- delete -------------------------------------------------------------------------------------

absl::Status EndProcess(const State& state) {
  constexpr int kTries = 1000;
  constexpr useconds_t kPause = 10'000;
  if (absl::Status status = state.process.Signal(SIGKILL);
      !status.ok() && !absl::IsNotFound(status)) {
    return status;
  }
  for (int i = 0; i < kTries; ++i) {
    if (!state.process.IsAlive()) return absl::OkStatus();
    usleep(kPause);
  }
  return absl::DeadlineExceededError("the container's process does not end");
}

// What is to be gone by all means, and is not there, or was never a container: one that was being made when its maker died.
absl::Status DeleteRemains(const Command& command) {
  const absl::StatusOr<ContainerDirectory> directory =
      ContainerDirectory::Open(command.root, command.id);
  if (absl::IsNotFound(directory.status())) return absl::OkStatus();
  if (!directory.ok()) return directory.status();
  const absl::StatusOr<FileDescriptor> lock = directory->Lock();
  if (!lock.ok()) return lock.status();
  const absl::Status state = directory->Load().status();
  return absl::IsNotFound(state) ? directory->Remove() : state;
}

absl::Status Delete(const Command& command, const Log& log) {
  absl::StatusOr<Held> held = Held::Of(command);
  if (!held.ok()) {
    return command.force && absl::IsNotFound(held.status()) ? DeleteRemains(command) : held.status();
  }
  if (held->state.status != Status::kStopped) {
    if (!command.force) return WrongStatus(held->state, "only a stopped one can be deleted");
    if (absl::Status status = EndProcess(held->state); !status.ok()) return status;
  }
  return RemoveContainer(held->directory, held->state, log);
}

// ---- run ----------------------------------------------------------------------------------------

// Until the container's process, a child of this one, has ended; what is sent to us is passed on.
int WaitForEnd(pid_t container) {
  sigset_t all;
  sigfillset(&all);
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(container, &status, WNOHANG);
    if (ended == container) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : runtime::kExitSignalBase + WTERMSIG(status);
    }
    if (ended < 0 && errno == ECHILD) return runtime::kExitRuntimeError;
    siginfo_t info;
    const int signal = sigwaitinfo(&all, &info);
    if (signal > 0 && signal != SIGCHLD) kill(container, signal);
  }
}

absl::StatusOr<int> Run(const Command& command, const Log& log) {
  // Before the container can end.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  const absl::StatusOr<State> state = CreateContainer(command, log);
  if (!state.ok()) return state.status();
  const absl::Status started = Start(command, log);
  Command remove = command;
  remove.force = true;
  if (!started.ok()) {
    Delete(remove, log).IgnoreError();
    return started;
  }
  const int exit_status = WaitForEnd(state->process.pid);
  if (absl::Status status = Delete(remove, log); !status.ok()) return status;
  return exit_status;
}

// ---- list ---------------------------------------------------------------------------------------

absl::Status List(const Command& command) {
  const std::vector<State> states = ContainerDirectory::List(command.root);
  if (command.json) {
    nlohmann::json all = nlohmann::json::array();
    for (const State& state : states) {
      const bool has_ended = state.status == Status::kStopped;
      all.push_back({{"ociVersion", state.version},
                     {"id", state.id},
                     {"pid", has_ended ? 0 : state.process.pid},
                     {"status", NameOf(state.status)},
                     {"bundle", state.bundle},
                     {"created", state.created},
                     {"annotations", state.annotations}});
    }
    return Print(Dump(all) + "\n");
  }
  std::string text =
      fmt::format("{:<24} {:>8} {:<9} {:<21} {}\n", "ID", "PID", "STATUS", "CREATED", "BUNDLE");
  for (const State& state : states) {
    const bool has_ended = state.status == Status::kStopped;
    text +=
        fmt::format("{:<24} {:>8} {:<9} {:<21} {}\n", state.id, has_ended ? 0 : state.process.pid,
                    NameOf(state.status), state.created, policy::Escaped(state.bundle));
  }
  return Print(text);
}

absl::Status CheckPreserved(int count) {
  for (int fd = STDERR_FILENO + 1; fd <= STDERR_FILENO + count; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    return absl::InvalidArgumentError(fmt::format("--preserve-fds: descriptor {} is not open", fd));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Execute(const Command& command, const Log& log) {
  absl::Status status;
  switch (command.action) {
    case Action::kCreate:
      status = CreateContainer(command, log).status();
      break;
    case Action::kStart:
      status = Start(command, log);
      break;
    case Action::kState: {
      const absl::StatusOr<ContainerDirectory> directory =
          ContainerDirectory::Open(command.root, command.id);
      if (!directory.ok()) return directory.status();
      const absl::StatusOr<State> state = directory->Load();
      status = state.ok() ? Print(StateJson(*state) + "\n") : state.status();
      break;
    }
    case Action::kKill:
      status = Kill(command);
      break;
    case Action::kDelete:
      status = Delete(command, log);
      break;
    case Action::kRun:
      return Run(command, log);
    case Action::kList:
      status = List(command);
      break;
    case Action::kFeatures:
      status = Print(FeaturesJson() + "\n");
      break;
  }
  if (!status.ok()) return status;
  return 0;
}

}  // namespace

std::optional<int> SignalFrom(const std::string& name) {
  int number = 0;
  if (absl::SimpleAtoi(name, &number)) {
    return number > 0 && number <= SIGRTMAX ? std::optional(number) : std::nullopt;
  }
  const std::string word = name.starts_with("SIG") ? name.substr(3) : name;
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    const char* const known = sigabbrev_np(signal);
    if (known != nullptr && word == known) return signal;
  }
  if (word == "RTMIN") return SIGRTMIN;
  if (word.starts_with("RTMIN+") && absl::SimpleAtoi(word.substr(6), &number) && number >= 0 &&
      number <= SIGRTMAX - SIGRTMIN) {
    return SIGRTMIN + number;
  }
  return std::nullopt;
}

int RunCommand(const Command& command) {
  signal(SIGCHLD, SIG_DFL);  // inherited as ignored it would take away how hooks and containers end
  // Before anything of ours can have their numbers, and so be handed to the program.
  const absl::Status preserved = CheckPreserved(command.preserved_descriptors);
  absl::StatusOr<Log> log = Log::Open(command.log, command.log_format);
  if (!log.ok()) {
    errors::Say(errors::Id::kNoReportFile, log.status());
    return runtime::kExitRuntimeError;
  }
  if (!preserved.ok()) {
    log->Error(preserved);
    return runtime::kExitRuntimeError;
  }
  const absl::StatusOr<int> result = Execute(command, *log);
  if (result.ok()) return *result;
  log->Error(result.status());
  return runtime::kExitRuntimeError;
}

}  // namespace dunebox::oci
