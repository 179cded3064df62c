#include "runtime/session.h"

#include <stdio.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/reserved_fd.h"
#include "hostcalls/trace/text_trace.h"
#include "runtime/host_layout.h"
#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/reserving_kvm_api.h"
#include "runtime/loader/program.h"
#include "runtime/memory/address_space.h"
#include "runtime/monitor.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/guest_vdso.h"
#include "runtime/process/process.h"
#include "runtime/process/signal_delivery.h"
#include "runtime/signals/host_signals.h"

namespace dunebox::runtime {
namespace {

constexpr std::uint64_t kLeastStack = std::uint64_t{128} << 10;
constexpr std::uint64_t kMostStack = std::uint64_t{1} << 30;
constexpr std::uint64_t kHwcap2Fsgsbase = 1 << 1;  // [linux] HWCAP2_FSGSBASE

// Says why on stderr; returns what to exit with.
int Fail(int exit_status, const absl::Status& status) {
  const std::string line = absl::StrCat("dunebox: ", status.message(), "\n");
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  return exit_status;
}

// The shell's convention for programs that cannot be started.
int FailToStart(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return Fail(kExitNotFound, status);
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
      return Fail(kExitCannotExecute, status);
    default:
      return Fail(kExitRuntimeError, status);
  }
}

absl::StatusOr<std::uint64_t> RandomBits() {
  std::uint64_t bits = 0;
  if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits)) {
    return absl::UnavailableError("getrandom failed");
  }
  return bits;
}

std::vector<std::string> Environment() {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  return environment;
}

absl::Status CheckChoices(const SessionOptions& options) {
  if (options.engine == EngineChoice::kJit) {
    return absl::UnimplementedError("this build has no jit engine; --engine=kvm is the only one");
  }
  if (options.ring != 3) {
    return absl::UnimplementedError("this build runs programs in ring 3 only");
  }
  return absl::OkStatus();
}

GuestRange WindowRange(const hostcalls::Window& window) {
  return {GuestVirt{window.lowest}, GuestVirt{window.limit}};
}

// Everything one guest process is made of, in order of construction.
class Guest {
 public:
  Guest(const memory::Layout& layout, hostcalls::ReservedDescriptors reserved)
      : reserved_(reserved),
        memory_(hostcalls::Window::WholeProgram()),
        space_(memory_, layout),
        limits_(reserved),
        kvm_api_(kvm::HostKvmApi(), limits_) {}

  // The exit status when it fails; does not return when the program runs.
  int Run(const SessionOptions& options, const loader::Program& program, std::uint64_t stack_limit);

 private:
  absl::Status StartEngine();
  absl::StatusOr<loader::HostFacts> Facts(std::uint64_t stack_limit);

  const hostcalls::ReservedDescriptors reserved_;
  const hostcalls::GuestMemory memory_;
  memory::AddressSpace space_;
  hostcalls::VirtualLimits limits_;
  kvm::ReservingKvmApi kvm_api_;
  std::unique_ptr<kvm::KvmEngine> engine_;
  std::unique_ptr<EngineThread> engine_thread_;
};

absl::Status Guest::StartEngine() {
  absl::StatusOr<kvm::Probe> probe = kvm::RunProbe(kvm_api_);
  if (!probe.ok()) return probe.status();
  absl::StatusOr<std::unique_ptr<kvm::KvmEngine>> engine =
      kvm::KvmEngine::Create(kvm_api_, *probe, space_);
  if (!engine.ok()) return engine.status();
  engine_ = *std::move(engine);
  absl::StatusOr<std::unique_ptr<EngineThread>> thread = engine_->CreateThread();
  if (!thread.ok()) return thread.status();
  engine_thread_ = *std::move(thread);
  return absl::OkStatus();
}

absl::StatusOr<loader::HostFacts> Guest::Facts(std::uint64_t stack_limit) {
  absl::StatusOr<GuestVirt> vdso = process::MapGuestVdso(space_, *engine_);
  if (!vdso.ok()) return vdso.status();
  return loader::HostFacts{
      .vdso = *vdso,
      .hardware_capabilities = getauxval(AT_HWCAP),
      .hardware_capabilities2 = getauxval(AT_HWCAP2) & kHwcap2Fsgsbase,
      .minimum_signal_stack = signals::MinimumSignalStack(engine_thread_->extended_state_size()),
      .stack_limit = stack_limit};
}

int Guest::Run(const SessionOptions& options, const loader::Program& program,
               std::uint64_t stack_limit) {
  signals::InstallFaultHandlers();
  if (absl::Status status = StartEngine(); !status.ok()) return Fail(kExitRuntimeError, status);
  absl::StatusOr<loader::HostFacts> facts = Facts(stack_limit);
  if (!facts.ok()) return Fail(kExitRuntimeError, facts.status());
  absl::StatusOr<loader::StartState> start =
      loader::Load(program, Environment(), space_, *facts);
  if (!start.ok()) return FailToStart(start.status());

  std::optional<hostcalls::ReservedFd> trace_fd;
  std::optional<hostcalls::TextTrace> trace;
  if (options.trace == TraceFormat::kText) {
    // Its own descriptor: the program may close or redirect its stderr.
    absl::StatusOr<hostcalls::ReservedFd> fd = limits_.DuplicateToReserved(STDERR_FILENO);
    if (!fd.ok()) return Fail(kExitRuntimeError, fd.status());
    trace_fd = *std::move(fd);
    trace.emplace(trace_fd->get());
  }
  process::Process process({.reserved = reserved_,
                            .executable_path = program.resolved_path,
                            .trace = trace ? &*trace : nullptr},
                           space_, limits_);
  process::GuestThread thread(process, std::move(engine_thread_));
  thread.registers.rip = start->entry.value;
  thread.registers.rsp = start->stack_pointer.value;
  process::SetInitialMask(thread);
  process::RunGuest(thread);
}

// In the monitor's child: becomes the guest.
int BecomeGuest(const SessionOptions& options) {
  absl::StatusOr<std::string> path = loader::FindProgram(options.program);
  if (!path.ok()) return FailToStart(path.status());
  absl::StatusOr<loader::Program> program = loader::OpenProgram(
      *path, options.arguments, WindowRange(hostcalls::Window::WholeProgram()));
  if (!program.ok()) return FailToStart(program.status());
  absl::StatusOr<std::uint64_t> random = RandomBits();
  if (!random.ok()) return Fail(kExitRuntimeError, random.status());
  const std::uint64_t stack_limit = std::clamp(CallerStackLimit(), kLeastStack, kMostStack);
  // Lives until the process ends: nothing returns from a running guest.
  auto* guest = new Guest(memory::Layout::FromRandom(*random, stack_limit),
                          hostcalls::DefaultReservedDescriptors());
  return guest->Run(options, *program, stack_limit);
}

}  // namespace

int RunSession(const SessionOptions& options) {
  if (absl::Status status = CheckChoices(options); !status.ok()) {
    return Fail(kExitRuntimeError, status);
  }
  if (absl::Status status = EnsureUserHalfIsFree(); !status.ok()) {
    return Fail(kExitRuntimeError, status);
  }
  absl::StatusOr<int> end = RunUnderMonitor([&] { _exit(BecomeGuest(options)); });
  return end.ok() ? *end : Fail(kExitRuntimeError, end.status());
}

}  // namespace dunebox::runtime
