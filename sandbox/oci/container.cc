#include "sandbox/oci/container.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "runtime/session.h"
#include "sandbox/oci/attributes.h"
#include "sandbox/oci/console.h"
#include "sandbox/oci/hooks.h"
#include "sandbox/oci/view.h"

namespace dunebox::oci {
namespace {

using runtime::FileDescriptor;

constexpr mode_t kUsualUmask = 022;

absl::Status Failed(std::string_view what) {
  return absl::ErrnoToStatus(errno, absl::string_view(what.data(), what.size()));
}

[[noreturn]] void GiveUp(const Channel& channel, const absl::Status& status) {
  channel.Send({Step::kFailed, std::string(status.message())});
  _exit(runtime::kExitRuntimeError);
}

// ---- The builder --------------------------------------------------------------------------------

struct OpenNamespace {
  int flag;
  FileDescriptor fd;
};

// While names still mean what the caller means.
absl::StatusOr<std::vector<OpenNamespace>> OpenNamespaces(const Plan& plan) {
  std::vector<OpenNamespace> all;
  for (const JoinedNamespace& joined : plan.joined) {
    FileDescriptor fd(open(joined.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return Failed("linux.namespaces: cannot open " + joined.path);
    all.push_back({joined.flag, std::move(fd)});
  }
  return all;
}

absl::Status BecomeRootInside() {
  if (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0) {
    return Failed("linux.uidMappings: 0 cannot be taken");
  }
  return absl::OkStatus();
}

// Rights over the other namespaces come with it, so it is the first.
absl::Status MakeUserNamespace(const Channel& channel) {
  if (unshare(CLONE_NEWUSER) != 0) return Failed("cannot make a user namespace");
  if (!channel.Send({Step::kUserMade})) return absl::AbortedError("create is gone");
  if (absl::Status status = channel.Expect(Step::kUserMapped); !status.ok()) return status;
  return BecomeRootInside();
}

absl::Status EnterNamespaces(const Plan& plan, const Channel& channel) {
  absl::StatusOr<std::vector<OpenNamespace>> joined = OpenNamespaces(plan);
  if (!joined.ok()) return joined.status();
  for (const OpenNamespace& entry : *joined) {
    if (setns(entry.fd.get(), entry.flag) != 0) return Failed("linux.namespaces: cannot join one");
    if (entry.flag != CLONE_NEWUSER) continue;
    if (absl::Status status = BecomeRootInside(); !status.ok()) return status;
  }
  if ((plan.new_namespaces & CLONE_NEWUSER) != 0) {
    if (absl::Status status = MakeUserNamespace(channel); !status.ok()) return status;
  }
  if (unshare(plan.new_namespaces & ~CLONE_NEWUSER) != 0) {
    return Failed("linux.namespaces: cannot make new ones");
  }
  return absl::OkStatus();
}

// ---- The container ------------------------------------------------------------------------------

// Of this process, by the host's /proc: before it can no longer be written.
absl::Status SetOomScore(const Process& process) {
  if (!process.oom_score_adjust) return absl::OkStatus();
  const FileDescriptor file(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  const std::string text = fmt::format("{}", *process.oom_score_adjust);
  if (file.valid() && write(file.get(), text.data(), text.size()) > 0) return absl::OkStatus();
  return Failed("process.oomScoreAdj: cannot be set to " + text);
}

absl::Status SetNames(const Config& config) {
  const std::string &host = config.hostname, &domain = config.domainname;
  if (!host.empty() && sethostname(host.data(), host.size()) != 0) return Failed("hostname");
  if (!domain.empty() && setdomainname(domain.data(), domain.size()) != 0) return Failed("domainname");
  return absl::OkStatus();
}

void ResetSignals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Those that the program has: the three usual ones and as many as --preserve-fds says. Ours are closed,
// since it would see them; but for the device, whose new number is returned.
int KeepDescriptors(ContainerRequest& request) {
  const int first_free = STDERR_FILENO + 1 + request.preserved_descriptors;
  auto first_closed = static_cast<unsigned>(first_free);
  int kvm_device = -1;
  if (request.kvm_device.valid()) {
    // Whatever has this number is closed anyway, or is the device itself.
    if (request.kvm_device.get() != first_free) dup2(request.kvm_device.get(), first_free);
    kvm_device = first_free;
    ++first_closed;
  }
  close_range(first_closed, UINT_MAX, 0);
  return kvm_device;
}

absl::StatusOr<View> MakeView(ContainerRequest& request, const Channel& channel,
                              FileDescriptor& terminal) {
  const Config& config = request.config;
  absl::Status status = SetOomScore(config.process);
  prctl(PR_SET_DUMPABLE, 0);  // who shares a namespace with it cannot reach into it
  if (status.ok()) status = SetNames(config);
  if (!status.ok()) return status;
  absl::StatusOr<View> view = View::Prepare(config, request.plan, request.root, request.cgroups);
  if (!view.ok()) return view.status();
  if (config.process.terminal) {
    absl::StatusOr<FileDescriptor> console =
        OpenConsole(*view, config.process, request.console_socket.get());
    if (!console.ok()) return console.status();
    terminal = *std::move(console);
  }
  for (const std::string& note : view->notes()) channel.Send({Step::kWarning, note});
  if (!channel.Send({Step::kMounted})) return absl::AbortedError("create is gone");
  status = channel.Expect(Step::kHooksRan);
  if (status.ok()) {
    status = RunHooks(config.hooks, HookPoint::kCreateContainer, StateJson(request.state));
  }
  if (status.ok()) status = view->Enter(config);
  if (status.ok()) status = FindProgram(config.process);
  if (!status.ok()) return status;
  return view;
}

// Waits until somebody asks for the start, and returns the connection: who asks wants to know what
// came of it. Others that connect and ask for nothing are sent away.
Channel WaitForStart(int listening) {
  constexpr timespec kPause = {.tv_sec = 0, .tv_nsec = 100'000'000};
  for (;;) {
    FileDescriptor connection(accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid()) {
      // The connection is still there: what the machine has too few of now comes back, but not by asking at once.
      if (errno != EINTR && errno != ECONNABORTED) nanosleep(&kPause, nullptr);
      continue;
    }
    Channel channel(std::move(connection));
    if (channel.Expect(Step::kStart).ok()) return channel;
  }
}

[[noreturn]] void BecomeContainer(ContainerRequest request, Channel channel) {
  absl::StatusOr<Message> known = channel.Receive();
  if (!known.ok() || known->step != Step::kKnown ||
      !absl::SimpleAtoi(known->text, &request.state.process.pid)) {
    _exit(runtime::kExitRuntimeError);
  }
  if (setsid() < 0) GiveUp(channel, Failed("setsid"));
  ResetSignals();
  umask(kUsualUmask);  // whatever the engine has: of places that are made, and for hooks
  FileDescriptor terminal;
  absl::StatusOr<View> view = MakeView(request, channel, terminal);
  if (!view.ok()) GiveUp(channel, view.status());
  AddFileRules(view->places(), request.plan.session.rules);
  if (!channel.Send({Step::kReady})) _exit(runtime::kExitRuntimeError);

  const Channel starter = WaitForStart(request.start_socket.get());
  const Process& process = request.config.process;
  request.state.status = Status::kCreated;
  absl::Status status =
      RunHooks(request.config.hooks, HookPoint::kStartContainer, StateJson(request.state));
  if (status.ok() && terminal.valid()) status = UseConsole(terminal.get());
  if (status.ok()) status = TakeAttributes(process, request.plan.kept_capabilities);
  if (!status.ok()) GiveUp(starter, status);
  starter.Send({Step::kStarted});
  runtime::SessionOptions session = std::move(request.plan.session);
  session.kvm_device = KeepDescriptors(request);
  _exit(runtime::RunSession(session));
}

}  // namespace

void BecomeBuilder(ContainerRequest request, Channel channel) {
  // The groups come first: a cgroup namespace begins where its maker is.
  if (!channel.Expect(Step::kGrouped).ok()) _exit(runtime::kExitRuntimeError);
  if (absl::Status status = EnterNamespaces(request.plan, channel); !status.ok()) {
    GiveUp(channel, status);
  }
  const pid_t container = fork();
  if (container < 0) GiveUp(channel, Failed("cannot fork"));
  if (container == 0) {
    BecomeContainer(std::move(request), std::move(channel));
  }
  channel.Send({Step::kProcess, fmt::format("{}", container)});
  _exit(0);
}

}  // namespace dunebox::oci
