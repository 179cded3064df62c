#include "sandbox/oci/create.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "hostcalls/errors/message.h"
#include "runtime/engine_choice.h"
#include "runtime/host_layout.h"
#include "runtime/text_file.h"
#include "sandbox/oci/cgroups.h"
#include "sandbox/oci/channel.h"
#include "sandbox/oci/config.h"
#include "sandbox/oci/console.h"
#include "sandbox/oci/container.h"
#include "sandbox/oci/hooks.h"
#include "sandbox/oci/plan.h"

namespace dunebox::oci {
namespace {

using runtime::FileDescriptor;

constexpr char kConfigName[] = "config.json";

absl::Status Failed(std::string_view what) {
  return absl::ErrnoToStatus(errno, absl::string_view(what.data(), what.size()));
}

absl::StatusOr<std::string> RealPath(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) == nullptr) return Failed("cannot find " + path);
  return std::string(resolved);
}

absl::StatusOr<FileDescriptor> ListenAt(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX};
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (socket.valid() &&
      bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      listen(socket.get(), 1) == 0) {
    return socket;
  }
  return Failed("cannot listen for start");
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  const FileDescriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  // Maps are taken in one write or not at all.
  if (file.valid() && write(file.get(), text.data(), text.size()) >= 0) return absl::OkStatus();
  return Failed("cannot write " + path);
}

std::string MapText(const std::vector<IdMapping>& mappings) {
  std::string text;
  for (const IdMapping& map : mappings) {
    text += fmt::format("{} {} {}\n", map.container_id, map.host_id, map.size);
  }
  return text;
}

absl::Status WriteMaps(pid_t pid, const Linux& config) {
  const std::string process = fmt::format("/proc/{}/", pid);
  if (geteuid() != 0) {
    // The kernel's condition for a map by anybody but root.
    if (absl::Status status = WriteText(process + "setgroups", "deny"); !status.ok()) return status;
  }
  absl::Status status = WriteText(process + "uid_map", MapText(config.uid_mappings));
  if (status.ok()) status = WriteText(process + "gid_map", MapText(config.gid_mappings));
  return status;
}

// Whole or not at all: an engine waits for it.
absl::Status WritePidFile(const std::string& path, pid_t pid) {
  const std::string next = path + ".new";
  const FileDescriptor file(open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  const std::string text = fmt::format("{}", pid);
  if (file.valid() && write(file.get(), text.data(), text.size()) > 0 &&
      rename(next.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  return Failed("--pid-file: cannot write " + path);
}

// Which engine it is, and its device: in the container nothing of this can be found out.
absl::Status ChooseEngine(ContainerRequest& request) {
  runtime::EngineChoice& engine = request.plan.session.engine;
  if (engine == runtime::EngineChoice::kAuto) {
    const bool is_jit =
        runtime::ChooseEngine(runtime::FactsOfThisMachine()) == process::EngineKind::kJit;
    engine = is_jit ? runtime::EngineChoice::kJit : runtime::EngineChoice::kKvm;
  }
  if (engine != runtime::EngineChoice::kKvm) return absl::OkStatus();
  request.kvm_device = FileDescriptor(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  return request.kvm_device.valid() ? absl::OkStatus() : Failed("engine kvm: cannot open /dev/kvm");
}

class Creation {
 public:
  Creation(const Command& command, const Log& log, ContainerDirectory directory, State state)
      : command_(command), log_(log), directory_(std::move(directory)), state_(std::move(state)) {}

  absl::StatusOr<State> Run(const std::string& text);

 private:
  absl::Status Prepare(const std::string& text);
  absl::Status MakeGroups();
  absl::Status Build();
  absl::StatusOr<Message> Next(const Channel& channel);
  absl::Status OnProcess(const Channel& channel, const std::string& text);
  absl::Status FollowBuilder(const Channel& channel, pid_t builder);
  absl::Status Undo(const absl::Status& reason);

  const Command& command_;
  const Log& log_;
  ContainerDirectory directory_;
  State state_;
  Cgroups groups_;
  ContainerRequest request_;
  Config config_;  // what hooks are left of when the request is another process's
};

absl::Status Creation::Prepare(const std::string& text) {
  absl::StatusOr<Config> config = ParseConfig(text, kConfigName);
  if (!config.ok()) return errors::Named(errors::Id::kBadConfig, config.status());
  config_ = *std::move(config);
  absl::StatusOr<Plan> plan =
      MakePlan(config_, {.text = text, .file = kConfigName, .bundle = state_.bundle});
  if (!plan.ok()) return errors::Named(errors::Id::kBadConfig, plan.status());
  for (const std::string& note : plan->notes) log_.Warning(note);
  const std::string& root = config_.root.path;
  absl::StatusOr<std::string> real = RealPath(root[0] == '/' ? root : state_.bundle + "/" + root);
  if (!real.ok()) return real.status();
  if (*real == "/") return absl::InvalidArgumentError("root.path: is the host's root");
  state_.version = config_.version;
  state_.annotations = config_.annotations;
  state_.has_own_processes = (plan->new_namespaces & CLONE_NEWPID) != 0;
  if (config_.process.terminal == command_.console_socket.empty()) {
    return absl::InvalidArgumentError(config_.process.terminal
                                          ? "process.terminal needs --console-socket"
                                          : "--console-socket needs process.terminal");
  }
  request_ = {.config = config_,
              .plan = *std::move(plan),
              .root = *std::move(real),
              .preserved_descriptors = command_.preserved_descriptors};
  if (!command_.console_socket.empty()) {
    absl::StatusOr<FileDescriptor> socket = ConnectTo(command_.console_socket);
    if (!socket.ok()) return socket.status();
    request_.console_socket = *std::move(socket);
  }
  if (absl::Status status = ChooseEngine(request_); !status.ok()) return status;
  absl::StatusOr<FileDescriptor> listening = ListenAt(directory_.SocketPath());
  if (!listening.ok()) return listening.status();
  request_.start_socket = *std::move(listening);
  return directory_.SaveConfig(text);
}

absl::Status Creation::MakeGroups() {
  const Resources& resources = config_.linux_part.resources;
  if (command_.no_cgroups) {
    return resources.HasLimits() ? absl::InvalidArgumentError(
                                       "linux.resources: limits need control groups, which "
                                       "--cgroup-manager=disabled takes away")
                                 : absl::OkStatus();
  }
  absl::StatusOr<std::string> path = CgroupPath(config_.linux_part.cgroups_path, state_.id);
  if (!path.ok()) return path.status();
  absl::StatusOr<Cgroups> groups = Cgroups::Create(HostCgroups::OfThisMachine(), *path, resources);
  if (!groups.ok()) {
    if (resources.HasLimits()) return groups.status();
    log_.Warning(fmt::format("no control groups: {}", std::string(groups.status().message())));
    return absl::OkStatus();
  }
  groups_ = *std::move(groups);
  state_.cgroups = groups_.directories();
  request_.cgroups = groups_.directories();
  return absl::OkStatus();
}

absl::StatusOr<Message> Creation::Next(const Channel& channel) {
  for (;;) {
    absl::StatusOr<Message> message = channel.Receive();
    if (!message.ok()) return message;
    if (message->step == Step::kFailed) return absl::AbortedError(message->text);
    if (message->step != Step::kWarning) return message;
    log_.Warning(message->text);
  }
}

absl::Status Creation::OnProcess(const Channel& channel, const std::string& text) {
  pid_t pid = 0;
  std::optional<ProcessIdentity> process;
  if (absl::SimpleAtoi(text, &pid)) process = ProcessIdentity::Of(pid);
  if (!process) return absl::AbortedError("the container's process has ended");
  state_.process = *process;
  if (absl::Status status = directory_.Save(state_); !status.ok()) return status;
  return channel.Send({Step::kKnown, text})
             ? absl::OkStatus()
             : absl::AbortedError("the container's process has ended");
}

absl::Status Creation::FollowBuilder(const Channel& channel, pid_t builder) {
  absl::Status status = groups_.Enter(builder);
  if (!status.ok()) return status;
  channel.Send({Step::kGrouped});
  for (;;) {
    const absl::StatusOr<Message> message = Next(channel);
    if (!message.ok()) return message.status();
    if (message->step == Step::kUserMade) {
      status = WriteMaps(builder, config_.linux_part);
      channel.Send({Step::kUserMapped});
    } else if (message->step == Step::kProcess) {
      status = OnProcess(channel, message->text);
    } else if (message->step == Step::kMounted) {
      status = RunHooks(config_.hooks, HookPoint::kPrestart, StateJson(state_));
      if (status.ok())
        status = RunHooks(config_.hooks, HookPoint::kCreateRuntime, StateJson(state_));
      if (status.ok()) channel.Send({Step::kHooksRan});
    } else if (message->step == Step::kReady) {
      return absl::OkStatus();
    }
    if (!status.ok()) return status;
  }
}

absl::Status Creation::Build() {
  absl::StatusOr<ChannelPair> pair = ChannelPair::Make();
  if (!pair.ok()) return pair.status();
  // The container is a child of ours when the builder has ended, and the engine's when we have.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  request_.state = state_;
  const pid_t builder = fork();
  if (builder < 0) return Failed("cannot fork");
  if (builder == 0) {
    { const Channel closed = std::move(pair->one); }
    BecomeBuilder(std::move(request_), std::move(pair->other));
  }
  { const Channel closed = std::move(pair->other); }
  absl::Status status = FollowBuilder(pair->one, builder);
  if (!status.ok()) kill(builder, SIGKILL);  // unless it has ended, it is still ours
  while (waitpid(builder, nullptr, 0) < 0 && errno == EINTR) {
  }
  return status;
}

absl::Status Creation::Undo(const absl::Status& reason) {
  if (state_.process.pid > 0) {
    kill(state_.process.pid, SIGKILL);
    while (waitpid(state_.process.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (absl::Status status = RemoveContainer(directory_, state_, log_); !status.ok()) {
    log_.Warning(std::string(status.message()));
  }
  return reason;
}

absl::StatusOr<State> Creation::Run(const std::string& text) {
  absl::Status status = directory_.Save(state_);
  if (status.ok()) status = Prepare(text);
  if (status.ok()) status = MakeGroups();
  if (status.ok()) status = directory_.Save(state_);
  if (status.ok()) status = Build();
  if (status.ok() && !command_.pid_file.empty()) {
    status = WritePidFile(command_.pid_file, state_.process.pid);
  }
  if (status.ok()) {
    state_.status = Status::kCreated;
    status = directory_.Save(state_);
  }
  if (!status.ok()) return Undo(status);
  return state_;
}

}  // namespace

absl::Status RemoveContainer(const ContainerDirectory& directory, State state, const Log& log) {
  const Cgroups groups(state.cgroups);
  if (absl::Status status = groups.End(); !status.ok()) log.Warning(std::string(status.message()));
  const absl::StatusOr<std::string> text = directory.LoadConfig();
  if (absl::Status status = directory.Remove(); !status.ok()) return status;
  if (!text.ok()) return absl::OkStatus();  // it did not come to have a configuration
  absl::StatusOr<Config> config = ParseConfig(*text, kConfigName);
  if (!config.ok()) return errors::Named(errors::Id::kBadConfig, config.status());
  state.status = Status::kStopped;
  // [OCI runtime.md "Lifecycle" 13] It is deleted whatever they say.
  const absl::Status hooks = RunHooks(config->hooks, HookPoint::kPoststop, StateJson(state));
  if (!hooks.ok()) log.Warning(std::string(hooks.message()));
  return absl::OkStatus();
}

absl::StatusOr<State> CreateContainer(const Command& command, const Log& log) {
  if (absl::Status status = runtime::EnsureUserHalfIsFree(); !status.ok()) return status;
  absl::StatusOr<std::string> bundle = RealPath(command.bundle);
  if (!bundle.ok()) return bundle.status();
  absl::StatusOr<std::string> text = runtime::ReadTextFile(*bundle + "/" + kConfigName);
  if (!text.ok()) return text.status();
  absl::StatusOr<ContainerDirectory> directory = ContainerDirectory::Make(command.root, command.id);
  if (!directory.ok()) return directory.status();
  State state{.version = kSpecVersion,
              .id = command.id,
              .bundle = *std::move(bundle),
              .created = TimeNow()};
  return Creation(command, log, *std::move(directory), std::move(state)).Run(*text);
}

}  // namespace dunebox::oci
