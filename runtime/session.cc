#include "runtime/session.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <climits>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/host_cpuid.h"
#include "hostcalls/policy/call_rules.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/limit_notes.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/output_meter.h"
#include "hostcalls/services/process_misc.h"
#include "hostcalls/services/reserved_fd.h"
#include "hostcalls/services/separate_descriptors.h"
#include "hostcalls/trace/chrome_trace.h"
#include "hostcalls/trace/text.h"
#include "hostcalls/trace/write_line.h"
#include "libdune/x86/guest_cpuid.h"
#include "runtime/confinement/lock_down.h"
#include "runtime/confinement/namespaces.h"
#include "runtime/debugger/gdb_server.h"
#include "runtime/dry_run.h"
#include "runtime/engine_choice.h"
#include "runtime/host_layout.h"
#include "runtime/jit/code_recorder.h"
#include "runtime/jit/isolation_choice.h"
#include "runtime/jit/jit_engine.h"
#include "runtime/jit/perf_dump.h"
#include "runtime/jit/perf_map.h"
#include "runtime/jit/prepared_file.h"
#include "runtime/jit/undecoded_features.h"
#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/reserving_kvm_api.h"
#include "runtime/limits/environment.h"
#include "runtime/limits/session_end.h"
#include "runtime/limits/task_slots.h"
#include "runtime/loader/program.h"
#include "runtime/memory/address_space.h"
#include "runtime/monitor.h"
#include "runtime/process/crash.h"
#include "runtime/process/exec.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/guest_vdso.h"
#include "runtime/process/machine.h"
#include "runtime/process/observers.h"
#include "runtime/process/process.h"
#include "runtime/process/signal_delivery.h"
#include "runtime/signals/host_signals.h"

namespace dunebox::runtime {
namespace {

constexpr std::uint64_t kLeastStack = std::uint64_t{128} << 10;
constexpr std::uint64_t kMostStack = std::uint64_t{1} << 30;
constexpr std::uint64_t kMostSmallStack = std::uint64_t{512} << 20;  // of 4 GiB
constexpr std::uint64_t kHwcap2Fsgsbase = 1 << 1;  // [linux] HWCAP2_FSGSBASE

using errors::Id;
using errors::Named;

// Says why on stderr; returns what to exit with.
int Fail(int exit_status, const absl::Status& status) {
  errors::Say(Id::kHostRefused, status);
  return exit_status;
}

// The shell's convention for programs that cannot be started.
struct StartFailure {
  absl::StatusCode code;
  int exit_status;
  Id id;
};
constexpr StartFailure kStartFailures[] = {
    {absl::StatusCode::kNotFound, kExitNotFound, Id::kNoProgram},
    {absl::StatusCode::kPermissionDenied, kExitCannotExecute, Id::kMayNotStart},
    {absl::StatusCode::kFailedPrecondition, kExitCannotExecute, Id::kNotAProgram},
    {absl::StatusCode::kInvalidArgument, kExitCannotExecute, Id::kNotAProgram},
    {absl::StatusCode::kOutOfRange, kExitCannotExecute, Id::kBadScript},
    {absl::StatusCode::kResourceExhausted, kExitCannotExecute, Id::kCannotLoad},
};

int FailToStart(const absl::Status& status) {
  const auto* const row =
      std::ranges::find(kStartFailures, status.code(), &StartFailure::code);
  if (row == std::end(kStartFailures)) return Fail(kExitRuntimeError, status);
  return Fail(row->exit_status, Named(row->id, status));
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

process::EngineKind EngineFor(EngineChoice choice) {
  if (choice == EngineChoice::kKvm) return process::EngineKind::kKvm;
  if (choice == EngineChoice::kJit) return process::EngineKind::kJit;
  return ChooseEngine(FactsOfThisMachine());
}

// The option that shows something only engine jit has; null: none was given.
const char* OptionOfJit(const SessionOptions& options) {
  const Diagnostics& diagnostics = options.diagnostics;
  if (options.jit_cache) return "--jit-cache";
  if (options.prepared) return "--jit-prepared";
  if (diagnostics.perf_map) return "--jit-perf-map";
  if (!diagnostics.perf_dump.empty()) return "--jit-perf-dump";
  if (!diagnostics.dump.empty()) return "--jit-dump";
  return diagnostics.record.empty() ? nullptr : "--jit-record";
}

absl::Status CheckChoices(const SessionOptions& options) {
  if (options.engine == EngineChoice::kJit) {
    if (absl::Status status = JitEngine::CheckHost(); !status.ok()) {
      return Named(Id::kJitLacks, status);
    }
  }
  if (options.isolation && EngineFor(options.engine) != process::EngineKind::kJit) {
    return Named(Id::kWrongEngine, absl::InvalidArgumentError("--jit-isolation needs engine jit"));
  }
  const char* const of_jit = OptionOfJit(options);
  if (of_jit != nullptr && EngineFor(options.engine) != process::EngineKind::kJit) {
    return Named(Id::kWrongEngine,
                 absl::InvalidArgumentError(absl::StrCat(
                     of_jit, " needs engine jit, ",
                     options.engine == EngineChoice::kKvm
                         ? "not --engine=kvm"
                         : "and auto takes kvm here: say --engine=jit")));
  }
  for (const int fd : {options.denials_fd, options.statistics_fd, options.code_fd}) {
    if (fd >= 0 && fcntl(fd, F_GETFD) < 0) {
      return Named(Id::kClosedDescriptor,
                   absl::InvalidArgumentError(
                       absl::StrCat("the descriptor for records, ", fd, ", is not open")));
    }
  }
  if (options.status_fd >= 0 && fcntl(options.status_fd, F_GETFD) < 0) {
    return Named(Id::kClosedDescriptor,
                 absl::InvalidArgumentError(absl::StrCat("--json-status-fd: descriptor ",
                                                         options.status_fd, " is not open")));
  }
  if (!options.trace_file.empty() && options.trace == TraceFormat::kNone) {
    return Named(Id::kOptionsDoNotFit, absl::InvalidArgumentError("--trace-file needs --trace"));
  }
  if (!options.statistics_file.empty() && !options.diagnostics.statistics) {
    return Named(Id::kOptionsDoNotFit, absl::InvalidArgumentError("--stats-file needs --stats"));
  }
  if (options.posted_writes && options.ring == 0) {
    return Named(Id::kOptionsDoNotFit,
                 absl::InvalidArgumentError("--posted-writes is not for --ring=0, where no call is answered inside"));
  }
  if (options.posted_writes && EngineFor(options.engine) != process::EngineKind::kKvm) {
    return Named(Id::kWrongEngine,
                 absl::InvalidArgumentError(absl::StrCat(
                     "--posted-writes needs engine kvm on virtualization hardware",
                     options.engine == EngineChoice::kAuto ? ", and auto takes jit here" : "")));
  }
  if (options.ring == 0 && EngineFor(options.engine) != process::EngineKind::kKvm) {
    return Named(Id::kWrongEngine,
                 absl::InvalidArgumentError(absl::StrCat(
                     "--ring=0 needs engine kvm on virtualization hardware",
                     options.engine == EngineChoice::kAuto ? ", and auto takes jit here" : "")));
  }
  return absl::OkStatus();
}

GuestRange WindowRange(const hostcalls::Window& window) {
  return {GuestVirt{window.lowest}, GuestVirt{window.limit}};
}

// A script that was given as a descriptor is named to its interpreter by the guest's own number,
// which has to be open still: as on Linux, a close-on-exec one is ENOENT for the interpreter.
bool OpensAsScript(int fd) {
  char head[2] = {};
  hostcalls::WithSeparateDescriptors([&] {
    const FileDescriptor file(open(hostcalls::DescriptorPath(fd).c_str(), O_RDONLY | O_CLOEXEC));
    if (file.valid()) (void)!pread(file.get(), head, sizeof(head), 0);
  });
  return head[0] == '#' && head[1] == '!';
}

// A page that all runtimes of the session share with the guardian and the monitor, and its file.
template <typename Page>
struct Shared {
  FileDescriptor file;
  std::unique_ptr<Page> page;  // null: the session needs none

  static absl::StatusOr<Shared> Of(absl::StatusOr<int> fd) {
    if (!fd.ok()) return fd.status();
    Shared shared{.file = FileDescriptor(*fd), .page = nullptr};
    absl::StatusOr<std::unique_ptr<Page>> page = Page::Map(*fd);
    if (!page.ok()) return page.status();
    shared.page = *std::move(page);
    return shared;
  }
};

// Made where the session begins.
struct SharedPages {
  Shared<hostcalls::OutputMeter> output;  // with --output
  Shared<hostcalls::LimitNotes> notes;    // with limits that refuse

  static absl::StatusOr<SharedPages> For(const SessionOptions& options) {
    SharedPages pages;
    if (options.rules.most_output != 0) {
      auto output = Shared<hostcalls::OutputMeter>::Of(
          hostcalls::OutputMeter::CreateFile(options.rules.most_output));
      if (!output.ok()) return output.status();
      pages.output = *std::move(output);
    }
    const SessionLimits& limits = options.limits;
    if (limits.memory || limits.tasks || limits.open_files || limits.file_size) {
      auto notes = Shared<hostcalls::LimitNotes>::Of(
          hostcalls::LimitNotes::CreateFile({.open_files = limits.open_files.value_or(0),
                                             .file_size = limits.file_size.value_or(0)}));
      if (!notes.ok()) return notes.status();
      pages.notes = *std::move(notes);
    }
    return pages;
  }
};

// What another runtime of the session has made.
template <typename Page>
absl::Status MapShared(int fd, std::unique_ptr<Page>& page) {
  if (fd < 0) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Page>> mapped = Page::Map(fd);
  if (!mapped.ok()) return mapped.status();
  page = *std::move(mapped);
  return absl::OkStatus();
}

// Everything one guest process is made of, in order of construction. Lives until the process ends:
// nothing returns from a running guest.
class Guest {
 public:
  Guest(const hostcalls::Window& window, const memory::Layout& layout,
        hostcalls::ReservedDescriptors reserved)
      : memory_(window),
        space_(memory_, layout),
        limits_(reserved),
        kvm_api_(kvm::HostKvmApi(), limits_) {}

  // Takes over the process's limits; `state` has what a predecessor had remembered, or is null.
  absl::Status InstallLimits(const process::ExecState* state);
  // Makes the limits that this process takes along the session's; once, before its first program.
  absl::Status BeginLimits(const SessionLimits& limits, process::ExecState& state);
  // Takes what the session's processes share, if anything; once, before its first program.
  absl::Status BeginShared(SharedPages pages, process::SessionState& session);
  absl::Status TakeTranslations(const SessionOptions& options, const PreparedFiles& prepared,
                                process::SessionState& session);
  // What a session opens once, before its first program, and by the caller's names: from here on
  // nothing of the host's file system is needed.
  absl::StatusOr<process::SessionState> BeginSession(const SessionOptions& options,
                                                     PreparedFiles prepared,
                                                     process::EngineKind engine,
                                                     jit::Isolation isolation);
  // Forgets the file system in which this process was, after it has got another one.
  absl::Status UseCurrentRoot() { return limits_.UseCurrentRoot(); }
  // Namespaces::HasOrdinaryProc().
  void NoteOrdinaryProc() { has_ordinary_proc_ = true; }
  // Finds out what the session's /dev/kvm can do. Behind the entering of namespaces, because KVM
  // may give this process another thread.
  absl::Status ProbeDevice(const SessionOptions& options, process::SessionState& session);
  // The exit status when it fails; does not return when the program runs. `beginning`: what the
  // session was asked for, when this is its first program; else null.
  int Run(process::ExecState state, std::uint64_t stack_limit, const SessionOptions* beginning);

 private:
  // Takes a page over; `fd` becomes the reserved descriptor of its file.
  template <typename Page>
  absl::Status Take(Shared<Page> shared, std::unique_ptr<Page>& page, int& fd);
  void ShowSharedToLimits();
  absl::StatusOr<int> OpenDirectory(const char* option, const std::string& path);
  absl::StatusOr<int> OpenOutput(const char* option, const std::string& path);
  absl::StatusOr<int> TakeOutput(int fd);
  absl::StatusOr<int> OpenCoreFile(const std::string& path);
  absl::Status OpenOutputs(const SessionOptions& options, process::SessionState& session);
  absl::Status Prepare(const process::ExecState& state);
  JitOptions TranslationFor(const process::SessionState& session);
  absl::StatusOr<loader::Program> Open(const process::ExecState& state);
  loader::HostFacts Facts(const EngineThread& thread, std::uint64_t stack_limit);
  [[noreturn]] void RunThread(const process::ExecState& state, const loader::Program& program,
                              std::unique_ptr<EngineThread> engine,
                              const loader::StartState& start,
                              debugger::GdbServer::Start debug_start);
  // Waits for gdb, where the session has asked for it.
  absl::Status AwaitGdb(const SessionOptions& options, process::SessionState& session);

  const hostcalls::GuestMemory memory_;
  memory::AddressSpace space_;
  hostcalls::VirtualLimits limits_;
  kvm::ReservingKvmApi kvm_api_;
  std::unique_ptr<TaskSlots> tasks_;  // null: any number
  std::unique_ptr<hostcalls::OutputMeter> output_;  // null: any amount
  std::unique_ptr<hostcalls::LimitNotes> notes_;    // null: no limit refuses anything
  std::unique_ptr<process::Machine> machine_;
  debugger::Listener listener_;  // for gdb, until it has connected
  bool has_ordinary_proc_ = false;
};

template <typename Page>
absl::Status Guest::Take(Shared<Page> shared, std::unique_ptr<Page>& page, int& fd) {
  if (shared.page == nullptr) return absl::OkStatus();
  absl::StatusOr<hostcalls::ReservedFd> file = limits_.DuplicateToReserved(shared.file.get());
  if (!file.ok()) return file.status();
  fd = file->release();
  page = std::move(shared.page);
  return absl::OkStatus();
}

void Guest::ShowSharedToLimits() {
  limits_.output = output_.get();
  limits_.notes = notes_.get();
}

absl::Status Guest::BeginShared(SharedPages pages, process::SessionState& session) {
  absl::Status status = Take(std::move(pages.output), output_, session.output_fd);
  if (status.ok()) status = Take(std::move(pages.notes), notes_, session.notes_fd);
  ShowSharedToLimits();
  return status;
}

absl::Status Guest::InstallLimits(const process::ExecState* state) {
  if (absl::Status status = limits_.Install(); !status.ok()) return status;
  if (state == nullptr) return absl::OkStatus();
  kvm_api_.UseSessionDevice(state->session.kvm_fd);
  limits_.Restore(RLIMIT_NOFILE, state->descriptors);
  limits_.Restore(RLIMIT_STACK, state->stack);
  limits_.Restore(RLIMIT_AS, state->address_space);
  limits_.Restore(RLIMIT_DATA, state->data);
  limits_.Restore(RLIMIT_CORE, state->core);
  limits_.Restore(RLIMIT_FSIZE, state->file_size);
  absl::Status status = MapShared(state->session.output_fd, output_);
  if (status.ok()) status = MapShared(state->session.notes_fd, notes_);
  if (status.ok()) status = MapShared(state->session.tasks_fd, tasks_);
  ShowSharedToLimits();
  return status;
}

absl::Status Guest::BeginLimits(const SessionLimits& limits, process::ExecState& state) {
  state.session.memory_limit = limits.memory.value_or(0);
  if (limits.file_size) {
    const rlim_t bytes = std::min<rlim_t>(*limits.file_size, limits_.Get(RLIMIT_FSIZE).rlim_max);
    limits_.Restore(RLIMIT_FSIZE, {bytes, bytes});
  }
  if (limits.open_files) {
    const rlim_t most = limits_.Get(RLIMIT_NOFILE).rlim_max;
    if (*limits.open_files > most) {
      return Named(Id::kLimitTooHigh,
                   absl::InvalidArgumentError(absl::StrCat(
                       "--nofile: no more than ", most, " open files can be had here")));
    }
    const hostcalls::SyscallResult set =
        limits_.Set(RLIMIT_NOFILE, {*limits.open_files, *limits.open_files});
    if (!set.ok()) return Named(Id::kLimitTooHigh, absl::ErrnoToStatus(set.error(), "--nofile"));
  }
  if (!limits.tasks) return absl::OkStatus();
  absl::StatusOr<FileDescriptor> file = TaskSlots::CreateFile(*limits.tasks);
  if (!file.ok()) return file.status();
  absl::StatusOr<hostcalls::ReservedFd> reserved = limits_.DuplicateToReserved(file->get());
  if (!reserved.ok()) return reserved.status();
  absl::StatusOr<std::unique_ptr<TaskSlots>> tasks = TaskSlots::Map(reserved->get());
  if (!tasks.ok()) return tasks.status();
  tasks_ = *std::move(tasks);
  state.session.tasks_fd = reserved->release();
  const std::optional<TaskSlots::Claim> claim = tasks_->Take();
  if (!claim || !tasks_->Confirm(*claim)) return absl::InternalError("--pids: cannot begin to count");
  return absl::OkStatus();
}

// By descriptor: the program may change its directory and its root.
absl::StatusOr<int> Guest::OpenDirectory(const char* option, const std::string& path) {
  const FileDescriptor directory(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) {
    return Named(Id::kNoReportFile,
                 absl::ErrnoToStatus(errno, absl::StrCat(option, ": cannot use ", path)));
  }
  absl::StatusOr<hostcalls::ReservedFd> fd = limits_.DuplicateToReserved(directory.get());
  if (!fd.ok()) return fd.status();
  return fd->release();
}

// Where a trace, statistics or messages go: the file, or standard error for an empty path. A descriptor of
// its own, because the program may close or redirect its stderr. Where there is none nobody is told, as natively.
absl::StatusOr<int> Guest::OpenOutput(const char* option, const std::string& path) {
  constexpr mode_t kMode = 0666;
  // Appending: every process writes to it, and each line goes behind all others.
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOCTTY;
  FileDescriptor file;
  if (!path.empty() || fcntl(STDERR_FILENO, F_GETFD) < 0) {
    const char* const name = path.empty() ? "/dev/null" : path.c_str();
    file = FileDescriptor(open(name, kFlags, kMode));
    if (!file.valid()) {
      return Named(Id::kNoReportFile,
                   absl::ErrnoToStatus(errno, absl::StrCat(option, ": cannot open ", name)));
    }
  }
  absl::StatusOr<hostcalls::ReservedFd> fd =
      limits_.DuplicateToReserved(file.valid() ? file.get() : STDERR_FILENO);
  if (!fd.ok()) return fd.status();
  return fd->release();
}

// The caller's descriptor, as one of ours: the program does not have it.
absl::StatusOr<int> Guest::TakeOutput(int fd) {
  absl::StatusOr<hostcalls::ReservedFd> ours = limits_.DuplicateToReserved(fd);
  if (!ours.ok()) return ours.status();
  close(fd);
  return ours->release();
}

// All that the program knew will be in it.
absl::StatusOr<int> Guest::OpenCoreFile(const std::string& path) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY;
  const FileDescriptor file(open(path.c_str(), kFlags, 0600));
  if (!file.valid()) {
    return Named(Id::kNoReportFile,
                 absl::ErrnoToStatus(errno, absl::StrCat("--core-file: cannot open ", path)));
  }
  absl::StatusOr<hostcalls::ReservedFd> fd = limits_.DuplicateToReserved(file.get());
  if (!fd.ok()) return fd.status();
  return fd->release();
}

absl::Status Guest::OpenOutputs(const SessionOptions& options, process::SessionState& session) {
  if (options.trace != TraceFormat::kNone) {
    absl::StatusOr<int> fd = OpenOutput("--trace-file", options.trace_file);
    if (!fd.ok()) return fd.status();
    session.trace_fd = *fd;
    if (options.trace == TraceFormat::kChrome) {
      hostcalls::WriteLine(*fd, hostcalls::kChromeTraceStart);
    }
  }
  if (options.denials_fd >= 0) {
    absl::StatusOr<int> fd = TakeOutput(options.denials_fd);
    if (!fd.ok()) return fd.status();
    session.denials_fd = *fd;
  }
  absl::StatusOr<int> standard_error = OpenOutput("standard error", {});
  if (!standard_error.ok()) return standard_error.status();
  session.report_fd = session.statistics_fd = *standard_error;
  errors::SpeakTo(session.report_fd);
  if (!options.core_file.empty()) {
    absl::StatusOr<int> fd = OpenCoreFile(options.core_file);
    if (!fd.ok()) return fd.status();
    session.core_fd = *fd;
    limits_.Restore(RLIMIT_CORE, {RLIM_INFINITY, RLIM_INFINITY});
  }
  if (!options.statistics_file.empty()) {
    absl::StatusOr<int> fd = OpenOutput("--stats-file", options.statistics_file);
    if (!fd.ok()) return fd.status();
    session.statistics_fd = *fd;
  }
  if (options.statistics_fd >= 0) {
    absl::StatusOr<int> fd = TakeOutput(options.statistics_fd);
    if (!fd.ok()) return fd.status();
    session.statistics_fd = *fd;
  }
  return absl::OkStatus();
}

// What the system has is used if it fits, and never asked for; what the user names has to fit.
absl::Status Guest::TakeTranslations(const SessionOptions& options, const PreparedFiles& prepared,
                                     process::SessionState& session) {
  if (options.code_fd >= 0) {
    absl::StatusOr<int> fd = TakeOutput(options.code_fd);
    if (!fd.ok()) return fd.status();
    session.code_fd = *fd;
  }
  if (options.prepared == kNothingPrepared) return absl::OkStatus();
  if (options.prepared) {
    const absl::Status fits = prepared.CheckFits(session.isolation);
    if (!fits.ok()) return Named(Id::kNotPrepared, fits);
  }
  const absl::StatusOr<FileDescriptor>& file = prepared.For(session.isolation);
  if (!file.ok()) return absl::OkStatus();
  absl::StatusOr<hostcalls::ReservedFd> fd = limits_.DuplicateToReserved(file->get());
  if (!fd.ok()) return fd.status();
  session.prepared_fd = fd->release();
  return absl::OkStatus();
}

absl::StatusOr<process::SessionState> Guest::BeginSession(const SessionOptions& options,
                                                          PreparedFiles prepared,  // not the program's
                                                          process::EngineKind engine,
                                                          jit::Isolation isolation) {
  process::SessionState session{.reserved = limits_.reserved(),
                                .trace = options.trace,
                                .diagnostics = options.diagnostics,
                                .engine = engine,
                                .jit_cache = options.jit_cache.value_or(kDefaultJitCache),
                                .root = getppid(),
                                .rules = options.rules};
  if (absl::Status status = OpenOutputs(options, session); !status.ok()) return status;
  if (!options.diagnostics.record.empty()) {
    absl::StatusOr<int> directory = OpenDirectory("--jit-record", options.diagnostics.record);
    if (!directory.ok()) return directory.status();
    session.record_fd = *directory;
  }
  if (!options.diagnostics.perf_dump.empty()) {
    absl::StatusOr<int> directory = OpenDirectory("--jit-perf-dump", options.diagnostics.perf_dump);
    if (!directory.ok()) return directory.status();
    session.perf_dump_fd = *directory;
    session.perf_dump_since = PerfDump::Now();
  }
  if (options.gdb) {
    // Here, where the program's network is not yet ours.
    absl::StatusOr<debugger::Listener> listener = debugger::Listen(*options.gdb);
    if (!listener.ok()) return Named(Id::kNoGdb, listener.status());
    listener_ = *std::move(listener);
  }
  if (engine == process::EngineKind::kJit) {
    session.isolation = isolation;
    absl::Status status = TakeTranslations(options, prepared, session);
    return status.ok() ? absl::StatusOr<process::SessionState>(std::move(session)) : status;
  }
  absl::StatusOr<int> device = options.kvm_device < 0
                                   ? kvm_api_.OpenSessionDevice()
                                   : kvm_api_.TakeSessionDevice(options.kvm_device);
  if (!device.ok()) return Named(Id::kNoKvm, device.status());
  session.kvm_fd = *device;
  return session;
}

absl::Status Guest::ProbeDevice(const SessionOptions& options, process::SessionState& session) {
  if (session.engine != process::EngineKind::kKvm) return absl::OkStatus();
  absl::StatusOr<kvm::Probe> probe = kvm::RunProbe(kvm_api_);
  if (!probe.ok()) return Named(Id::kNoKvm, probe.status());
  session.probe = *probe;
  if (options.posted_writes && !probe->is_hardware()) {
    return Named(Id::kNoHardware,
                 absl::UnimplementedError(absl::StrCat(
                     "--posted-writes needs virtualization hardware, and this /dev/kvm is emulated: ",
                     probe->reason())));
  }
  session.posted_writes = options.posted_writes;
  if (options.ring != 0) return absl::OkStatus();
  // An interpreted ring 0 would run the whole program, slowly and with holes.
  if (!probe->is_hardware()) {
    return Named(Id::kNoHardware,
                 absl::UnimplementedError(absl::StrCat(
                     "--ring=0 needs virtualization hardware, and this /dev/kvm is emulated: ",
                     probe->reason())));
  }
  session.ring = kvm::ProgramRing::kRing0;
  return absl::OkStatus();
}

// The runtime's own executable, for execve.
absl::StatusOr<int> OpenRuntime(hostcalls::VirtualLimits& limits) {
  const FileDescriptor self(open("/proc/self/exe", O_PATH | O_CLOEXEC));
  if (!self.valid()) return absl::UnavailableError("cannot open /proc/self/exe");
  absl::StatusOr<hostcalls::ReservedFd> fd = limits.DuplicateToReserved(self.get());
  if (!fd.ok()) return fd.status();
  return fd->release();
}

// The calls that translated code may make without asking anybody.
std::bitset<hostcalls::kSyscallTableSize> CallsInPlace(const process::SessionState& session) {
  std::bitset<hostcalls::kSyscallTableSize> calls;
  if (session.sees_every_call()) return calls;
  const hostcalls::policy::CallRules rules(session.rules);
  for (std::size_t number = 0; number < calls.size(); ++number) {
    calls[number] = session.rules.allow_all || rules.AlwaysAllows(number);
  }
  return calls;
}

// The code is a file to the kernel, which may not become larger than the caller's files may.
std::size_t CodeCacheBytes(const process::SessionState& session) {
  constexpr unsigned kMebibyte = 20;
  rlimit most{};
  getrlimit(RLIMIT_FSIZE, &most);
  const rlim_t possible = std::max(most.rlim_max >> kMebibyte, rlim_t{1});
  return static_cast<std::size_t>(std::min(rlim_t{session.jit_cache}, possible)) << kMebibyte;
}

// A process that cannot have a file for perf or for its record goes on without: a program must not
// fail because somebody watches it.
JitOptions Guest::TranslationFor(const process::SessionState& session) {
  JitOptions options{.cache_size = CodeCacheBytes(session),
                     .isolation = session.isolation,
                     .in_place_calls = CallsInPlace(session),
                     .measure_time = session.diagnostics.statistics,
                     .code_fd = session.code_fd,
                     .report_fd = session.report_fd};
  if (session.prepared_fd >= 0) {
    absl::StatusOr<std::unique_ptr<jit::PreparedBlocks>> blocks =
        jit::PreparedBlocks::Open(session.prepared_fd, JitEngine::EmitterFor(session.isolation));
    if (blocks.ok()) options.prepared = *std::move(blocks);
  }
  if (session.diagnostics.perf_map) {
    absl::StatusOr<std::unique_ptr<PerfMap>> map = PerfMap::Create(limits_, space_, session.report_fd);
    if (map.ok()) {
      options.perf_map = *std::move(map);
    } else {
      errors::Say(Id::kNotWatched, map.status());
    }
  }
  if (session.perf_dump_fd >= 0) {
    absl::StatusOr<std::unique_ptr<PerfDump>> dump =
        PerfDump::Create(limits_, space_, {.directory = session.perf_dump_fd,
                                           .report_fd = session.report_fd,
                                           .since = session.perf_dump_since,
                                           .mapped = CodeCacheBytes(session)});
    if (dump.ok()) {
      options.perf_dump = *std::move(dump);
    } else {
      errors::Say(Id::kNotWatched, dump.status());
    }
  }
  if (session.record_fd >= 0) {
    absl::StatusOr<std::unique_ptr<CodeRecorder>> recorder =
        CodeRecorder::Create(limits_, session.record_fd, session.report_fd);
    if (recorder.ok()) {
      options.recorder = *std::move(recorder);
    } else {
      errors::Say(Id::kNotWatched, recorder.status());
    }
  }
  return options;
}

absl::Status Guest::Prepare(const process::ExecState& state) {
  const process::SessionState& session = state.session;
  absl::StatusOr<std::unique_ptr<process::Machine>> machine = process::Machine::Create(
      [this, session]() -> absl::StatusOr<std::unique_ptr<ExecutionEngine>> {
        if (session.engine == process::EngineKind::kJit) {
          return JitEngine::Create(TranslationFor(session), space_);
        }
        return kvm::KvmEngine::Create(kvm_api_, session.probe, space_, session.ring);
      },
      space_);
  if (!machine.ok()) {
    const bool is_jit = session.engine == process::EngineKind::kJit;
    return Named(is_jit ? Id::kNoCodeMemory : Id::kNoKvm, machine.status());
  }
  machine_ = *std::move(machine);
  return absl::OkStatus();
}

// What `dunebox run` or an execve that was already permitted starts. There is no call of the
// program's to refuse any more: the session, or the process, ends.
absl::Status MayExecute(const hostcalls::policy::Rules& rules,
                        hostcalls::ReservedDescriptors reserved, int fd, const std::string& path) {
  if (rules.allow_all || rules.audit) return absl::OkStatus();
  const hostcalls::CopyResult<std::string> name = hostcalls::ObjectName(reserved, fd);
  if (!name.ok()) return absl::ErrnoToStatus(name.error().value, path);
  const hostcalls::policy::RightsAndOrigin allowed = hostcalls::RightsOnName(rules, *name);
  if ((allowed.rights & hostcalls::policy::kExecuteFile) != 0) return absl::OkStatus();
  const std::string object = hostcalls::Escape(*name);
  return Named(Id::kMayNotRun,
               absl::PermissionDeniedError(absl::StrCat(
                   hostcalls::Escape(path), ": the policy does not permit to execute ", object,
                   " (to allow it: --ro ", object, ")")));
}

// Of a program that was given as a descriptor, that descriptor is opened and closed.
absl::StatusOr<loader::Program> Guest::Open(const process::ExecState& state) {
  const hostcalls::ReservedFd program_fd(state.program_fd);
  const std::string path = program_fd.valid() && !OpensAsScript(program_fd.get())
                               ? hostcalls::DescriptorPath(program_fd.get())
                               : state.path;
  absl::StatusOr<loader::Program> program =
      loader::OpenProgram(path, state.arguments, WindowRange(memory_.window()),
                          [&](int fd, const std::string& name) {
                            return MayExecute(state.session.rules, limits_.reserved(), fd, name);
                          });
  if (program.ok()) program->path = state.path;
  return program;
}

// AT_HWCAP, [linux] CPUID.1:EDX. Not from getauxval, which answers with glibc's own set of flags.
std::uint64_t HardwareCapabilities() {
  return hostcalls::FeaturesOfHost(1).edx;
}

loader::HostFacts Guest::Facts(const EngineThread& thread, std::uint64_t stack_limit) {
  return {
      .map_vdso = [this] { return process::MapGuestVdso(*machine_); },
      .hardware_capabilities = HardwareCapabilities(),
      .hardware_capabilities2 = getauxval(AT_HWCAP2) & kHwcap2Fsgsbase,
      .minimum_signal_stack = signals::MinimumSignalStack(thread.extended_state_size()),
      .stack_limit = stack_limit};
}

// Wall 2, for the rest of the session.
absl::Status Confine(const SessionOptions& options, int first_reserved, bool names_threads,
                     process::SessionState& session) {
  if (!options.plan.confine) return absl::OkStatus();
  const bool is_jit = session.engine == process::EngineKind::kJit;
  confinement::LockDownRequest request{
      .plan = options.plan,
      .rules = options.rules,
      .kvm = !is_jit,
      .code_cache = is_jit ? CodeCacheBytes(session) : 0,
      .protection_keys = is_jit && session.isolation == jit::Isolation::kPku,
      .runtime_fd = session.runtime_fd,
      .first_reserved = first_reserved,
      .names_threads = names_threads};
  for (const int directory : {session.record_fd, session.perf_dump_fd}) {
    if (directory >= 0) request.output_directories.push_back(hostcalls::DescriptorPath(directory));
  }
  if (options.diagnostics.perf_map) request.output_directories.emplace_back(PerfMap::kDirectory);
  absl::StatusOr<confinement::Confinement> confinement = confinement::LockDown(request);
  if (!confinement.ok()) return Named(Id::kNoLockDown, confinement.status());
  session.confinement = *std::move(confinement);
  return absl::OkStatus();
}

// The name ps shows, as exec sets it.
void SetCommandName(const std::string& path) {
  prctl(PR_SET_NAME, path.substr(path.rfind('/') + 1).c_str());
}

// Strings as they lie in memory, each with its NUL.
std::string Join(const std::vector<std::string>& strings) {
  std::string joined;
  for (const std::string& text : strings) joined.append(text.c_str(), text.size() + 1);
  return joined;
}

absl::Status Guest::AwaitGdb(const SessionOptions& options, process::SessionState& session) {
  if (!options.gdb) return absl::OkStatus();
  const debugger::Listener listener = std::move(listener_);
  absl::StatusOr<FileDescriptor> connection = debugger::Accept(*options.gdb, listener);
  if (!connection.ok()) return Named(Id::kNoGdb, connection.status());
  absl::StatusOr<hostcalls::ReservedFd> reserved = limits_.DuplicateToReserved(connection->get());
  if (!reserved.ok()) return reserved.status();
  session.gdb.fd = reserved->release();
  return absl::OkStatus();
}

// What CPUID does not offer, by the kernel's words.
std::vector<std::string> FlagsHiddenBy(process::EngineKind engine) {
  std::vector<std::string> flags;
  const auto add = [&](std::span<const dune::x86::HiddenFeature> features) {
    for (const dune::x86::HiddenFeature& feature : features) {
      if (*feature.flag != '\0') flags.emplace_back(feature.flag);
    }
  };
  add(dune::x86::kHiddenFeatures);
  if (engine == process::EngineKind::kJit) add(kUndecodedFeatures);
  return flags;
}

void Guest::RunThread(const process::ExecState& state, const loader::Program& program,
                      std::unique_ptr<EngineThread> engine, const loader::StartState& start,
                      debugger::GdbServer::Start debug_start) {
  const process::Observers observers(state.session, machine_->engine().name());
  process::Process process(state.session, *machine_, limits_, tasks_.get(), observers,
                           {.executable_path = program.resolved_path,
                            .command_line = Join(program.arguments),
                            .environment = Join(state.environment),
                            .auxv = start.auxv,
                            .hidden_flags = FlagsHiddenBy});
  process::GuestThread thread(process, std::move(engine));
  thread.registers.rip = start.entry.value;
  thread.registers.rsp = start.stack_pointer.value;
  thread.personality = state.personality;
  process::TakeOverPending(thread, state.pending);
  process::SetSignalMask(thread, state.signal_mask);
  if (observers.sink() != nullptr) {
    observers.sink()->OnBegin(hostcalls::Beginning::kProgram, program.resolved_path);
  }
  process::TakeCrashSignals(process);
  std::optional<debugger::GdbServer> server;
  if (const process::GdbConnection& gdb = state.session.gdb; gdb.fd >= 0) {
    fcntl(gdb.fd, F_SETFD, FD_CLOEXEC);  // a vforked child's program does not have it
    server.emplace(process, thread, gdb, debug_start);
    if (absl::Status status = server->Begin(); !status.ok()) {
      _exit(Fail(kExitRuntimeError, status));
    }
    process.SetDebugger(&*server);
  }
  process::RunGuest(thread);
  // The first thread has ended by exit(2); others may go on, and need what is on this stack.
  process::FinishThread(thread);
  syscall(SYS_exit, thread.exit_status);
  __builtin_unreachable();
}

// What EndWithoutMemory says, made while there was memory.
struct LastWords {
  std::string line;
  int fd;
};
const LastWords* last_words = nullptr;

// Nobody asks whether an allocation works: a program can use up all that its process may have.
[[noreturn]] void EndWithoutMemory() {
  [[maybe_unused]] const ssize_t written =
      write(last_words->fd, last_words->line.data(), last_words->line.size());
  _exit(kExitRuntimeError);
}

int Guest::Run(process::ExecState state, std::uint64_t stack_limit,
               const SessionOptions* beginning) {
  signals::InstallFaultHandlers();
  last_words = new LastWords{.line = errors::LineOf(Id::kNoMemory, "the process has no memory left for the runtime"),
                             .fd = state.session.report_fd};
  std::set_new_handler(EndWithoutMemory);
  absl::StatusOr<int> self = OpenRuntime(limits_);
  if (!self.ok()) return Fail(kExitRuntimeError, self.status());
  state.session.runtime_fd = *self;
  std::optional<hostcalls::NoLocksYet> no_locks;
  if (beginning != nullptr) no_locks.emplace();
  // Opened here so that the files are closed again before the program runs.
  std::optional<loader::Program> program;
  {
    absl::StatusOr<loader::Program> opened = Open(state);
    if (!opened.ok()) return FailToStart(opened.status());
    program = *std::move(opened);
  }
  if (absl::Status status = Prepare(state); !status.ok()) return Fail(kExitRuntimeError, status);
  absl::StatusOr<std::unique_ptr<EngineThread>> engine = machine_->engine().CreateThread();
  if (!engine.ok()) return Fail(kExitRuntimeError, Named(Id::kEngineFailure, engine.status()));
  absl::StatusOr<loader::StartState> start =
      loader::Load(*program, state.environment, space_, Facts(**engine, stack_limit));
  if (!start.ok()) return FailToStart(Named(Id::kCannotLoad, start.status()));
  no_locks.reset();
  if (hostcalls::SyscallResult kept =
          limits_.SetSlot(program->executable.handle.get(), hostcalls::ReservedSlot::kExecutable);
      !kept.ok()) {
    return Fail(kExitRuntimeError,
                absl::ErrnoToStatus(kept.error(), "cannot keep the program's file"));
  }
  program->executable.handle = FileDescriptor();
  program->interpreter.reset();
  SetCommandName(state.path);
  space_.LimitData(state.session.memory_limit, notes_.get());
  space_.KeepLimits(limits_.memory());
  if (absl::Status status = limits_.ApplyFileSize(); !status.ok()) {
    return Fail(kExitRuntimeError, status);
  }
  if (beginning != nullptr) {
    if (absl::Status status = AwaitGdb(*beginning, state.session); !status.ok()) {
      return Fail(kExitRuntimeError, status);
    }
    const absl::Status status =
        Confine(*beginning, limits_.reserved().first, has_ordinary_proc_, state.session);
    if (!status.ok()) {
      return Fail(kExitRuntimeError, status);
    }
  }
  RunThread(state, *program, *std::move(engine), *start,
            beginning != nullptr ? debugger::GdbServer::Start::kSession
                                 : debugger::GdbServer::Start::kExec);
}

std::uint64_t StackLimit(std::uint64_t wanted, jit::Isolation isolation) {
  const bool is_small = isolation == jit::Isolation::kSeg;
  return std::clamp(wanted, kLeastStack, is_small ? kMostSmallStack : kMostStack);
}

// The program's share of what the caller has asked of the kernel. It is the program's alone from now on: the runtimes that
// execve makes are placed at random.
std::uint32_t TakePersonality() {
  constexpr unsigned kOnlyAsk = 0xffffffff;
  const auto all = static_cast<std::uint32_t>(personality(kOnlyAsk));
  const std::uint32_t kept = all & hostcalls::kKeptPersonality;
  if (kept != 0) personality(all & ~kept);
  return kept;
}

absl::StatusOr<Guest*> MakeGuest(std::uint64_t stack_limit, process::EngineKind engine,
                                 jit::Isolation isolation, std::uint32_t personality,
                                 hostcalls::ReservedDescriptors reserved) {
  const bool is_random = (personality & ADDR_NO_RANDOMIZE) == 0;
  absl::StatusOr<std::uint64_t> random = is_random ? RandomBits() : 0;
  if (!random.ok()) return random.status();
  hostcalls::Window window = hostcalls::Window::WholeProgram();
  memory::Images images = memory::Images::kSpread;
  if (isolation == jit::Isolation::kSeg) {
    window = hostcalls::Window::SmallProgram();
    images = memory::Images::kSmall;
  } else if (engine == process::EngineKind::kJit) {
    images = memory::Images::kLow;
  }
  return new Guest(window, memory::Layout::FromRandom(*random, stack_limit, images),
                   reserved);
}

// A line for --json-status-fd. Who reads it may be gone; that is no reason to end.
void WriteStatus(int fd, const std::string& line) {
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = write(fd, line.data(), line.size());
}

std::string_view IsolationName(process::EngineKind engine, jit::Isolation isolation) {
  return engine == process::EngineKind::kJit ? jit::NameOf(isolation) : std::string_view();
}

absl::Status EnterDirectory(const std::string& directory) {
  if (directory.empty() || chdir(directory.c_str()) == 0) return absl::OkStatus();
  return Named(Id::kWorkingDirectory,
               absl::ErrnoToStatus(errno, absl::StrCat("--chdir: cannot enter ", directory)));
}

// In place of a session.
int DryRun(const SessionOptions& options) {
  if (absl::Status status = EnterDirectory(options.directory); !status.ok()) {
    return Fail(kExitRuntimeError, status);
  }
  absl::StatusOr<std::string> path = loader::FindProgram(options.program);
  if (!path.ok()) return FailToStart(path.status());
  const process::EngineKind engine = EngineFor(options.engine);
  absl::StatusOr<jit::Isolation> isolation = jit::Isolation::kNone;
  if (engine == process::EngineKind::kJit) isolation = ChooseIsolation(options.isolation);
  if (!isolation.ok()) return Fail(kExitRuntimeError, Named(Id::kNoIsolation, isolation.status()));
  const std::string text =
      DescribeSession(options, {.program = *path,
                                .engine = process::NameOf(engine),
                                .isolation = IsolationName(engine, *isolation)});
  if (write(STDOUT_FILENO, text.data(), text.size()) == static_cast<ssize_t>(text.size())) return 0;
  return Fail(kExitRuntimeError, Named(Id::kCannotPrint, absl::ErrnoToStatus(
                                                             errno, "cannot write to standard output")));
}

// This process's id as the caller knows it: behind Enter it may have another one.
pid_t PidForCaller() {
  char number[16] = {};
  pid_t pid = 0;
  const bool read = readlink("/proc/self", number, sizeof(number) - 1) > 0;
  return read && absl::SimpleAtoi(number, &pid) ? pid : getpid();
}

// Into the program's namespaces, and there into the directory that has the current one's name. When
// the program has no such directory it starts in its root.
absl::Status EnterNamespaces(confinement::Namespaces& namespaces) {
  char name[PATH_MAX];
  const char* const directory = getcwd(name, sizeof(name));
  if (absl::Status status = namespaces.Enter(); !status.ok()) return status;
  if (!namespaces.Has(confinement::Mechanism::kMountNamespace)) return absl::OkStatus();
  if (directory != nullptr && chdir(directory) == 0) return absl::OkStatus();
  return chdir("/") == 0 ? absl::OkStatus() : absl::ErrnoToStatus(errno, "cannot enter /");
}

// In the guardian's child: becomes the guest.
int BecomeGuest(const SessionOptions& options, PreparedFiles prepared,
                confinement::Namespaces& namespaces, SharedPages pages) {
  const process::EngineKind engine = EngineFor(options.engine);
  absl::StatusOr<jit::Isolation> isolation = jit::Isolation::kNone;
  if (engine == process::EngineKind::kJit) isolation = ChooseIsolation(options.isolation);
  if (!isolation.ok()) return Fail(kExitRuntimeError, Named(Id::kNoIsolation, isolation.status()));
  const std::uint64_t stack_limit = StackLimit(CallerStackLimit(), *isolation);
  const std::uint32_t personality = TakePersonality();
  absl::StatusOr<Guest*> guest =
      MakeGuest(stack_limit, engine, *isolation, personality,
                hostcalls::DefaultReservedDescriptors(options.limits.open_files.value_or(0)));
  if (!guest.ok()) return Fail(kExitRuntimeError, guest.status());
  if (absl::Status status = (*guest)->InstallLimits(nullptr); !status.ok()) {
    return Fail(kExitRuntimeError, status);
  }
  absl::StatusOr<process::SessionState> session =
      (*guest)->BeginSession(options, std::move(prepared), engine, *isolation);
  if (!session.ok()) return Fail(kExitRuntimeError, session.status());
  const pid_t pid = PidForCaller();
  absl::Status status = Named(Id::kNoNamespaces, EnterNamespaces(namespaces));
  if (status.ok() && namespaces.Has(confinement::Mechanism::kMountNamespace)) {
    status = (*guest)->UseCurrentRoot();
    if (namespaces.HasOrdinaryProc()) (*guest)->NoteOrdinaryProc();
  }
  if (status.ok()) status = EnterDirectory(options.directory);
  if (!status.ok()) return Fail(kExitRuntimeError, status);
  absl::StatusOr<std::string> path = loader::FindProgram(options.program);
  if (!path.ok()) return FailToStart(path.status());
  status = (*guest)->ProbeDevice(options, *session);
  if (!status.ok()) return Fail(kExitRuntimeError, status);
  // The descriptor is ours and the monitor's: the program does not have it.
  WriteStatus(options.status_fd,
              StartedLine(pid, process::NameOf(engine), IsolationName(engine, *isolation)));
  if (options.status_fd >= 0) close(options.status_fd);
  process::ExecState state{.session = *session,
                           .path = *path,
                           .arguments = options.arguments,
                           .environment = Changed(Environment(), options.environment),
                           .signal_mask = signals::HostMask(),
                           .personality = personality};
  status = (*guest)->BeginShared(std::move(pages), state.session);
  if (!status.ok()) return Fail(kExitRuntimeError, status);
  status = (*guest)->BeginLimits(options.limits, state);
  if (!status.ok()) return Fail(kExitRuntimeError, status);
  return (*guest)->Run(std::move(state), stack_limit, &options);
}

int ContinueSession(int state_fd) {
  absl::StatusOr<process::ExecState> state = process::ReceiveExecState(state_fd);
  if (!state.ok()) return Fail(kExitRuntimeError, Named(Id::kDamagedState, state.status()));
  if (absl::Status status = confinement::VerifyLockDown(state->session.confinement);
      !status.ok()) {
    return Fail(kExitRuntimeError, Named(Id::kWouldBeUnconfined, status));
  }
  errors::SpeakTo(state->session.report_fd);
  // The runtime before has shut out all signals, so that none would be lost.
  signals::SetHostMask(state->signal_mask);
  const jit::Isolation isolation = state->session.isolation;
  const std::uint64_t stack_limit = StackLimit(state->stack.rlim_cur, isolation);
  absl::StatusOr<Guest*> guest = MakeGuest(stack_limit, state->session.engine, isolation,
                                           state->personality, state->session.reserved);
  if (!guest.ok()) return Fail(kExitRuntimeError, guest.status());
  if (absl::Status status = (*guest)->InstallLimits(&*state); !status.ok()) {
    return Fail(kExitRuntimeError, status);
  }
  return (*guest)->Run(*std::move(state), stack_limit, nullptr);
}

RefusedLimits RefusedBy(const hostcalls::LimitNotes* notes) {
  if (notes == nullptr) return {};
  using hostcalls::RefusedLimit;
  return {.memory = notes->Has(RefusedLimit::kMemory),
          .tasks = notes->Has(RefusedLimit::kTasks),
          .open_files = notes->Has(RefusedLimit::kOpenFiles),
          .file_size = notes->Has(RefusedLimit::kFileSize)};
}

// The program makes no call that the filter ends, and no handler for it: so it is worth telling.
absl::Status FilterFailure(const SessionEnd& end, const confinement::Plan& plan) {
  if (!plan.confine || end.reason != EndReason::kSignaled || end.signal != SIGSYS) {
    return absl::OkStatus();
  }
  return Named(Id::kEndedByFilter,
               absl::AbortedError("ended by SIGSYS: unless the program raised it, a system call was "
                                  "made that the session's lock-down forbids"));
}

}  // namespace

int RunSession(const SessionOptions& options) {
  if (absl::Status status = CheckChoices(options); !status.ok()) {
    return Fail(kExitRuntimeError, status);
  }
  if (absl::Status status = EnsureUserHalfIsFree(); !status.ok()) {
    return Fail(kExitRuntimeError, Named(Id::kUserHalfTaken, status));
  }
  if (options.dry_run) return DryRun(options);
  SessionLimits limits = options.limits;
  MonitorOptions monitor{.plan = options.plan, .die_with_parent = options.die_with_parent};
  SessionOptions begun = options;  // as it begins: the guardian may find that there is no view
  if (options.leave_out_view) {
    monitor.plan_without_view = [&]() -> absl::StatusOr<confinement::Plan> {
      if (absl::Status status = options.leave_out_view(begun); !status.ok()) return status;
      return begun.plan;
    };
  }
  absl::StatusOr<SharedPages> pages = SharedPages::For(options);
  if (!pages.ok()) return Fail(kExitRuntimeError, pages.status());
  if (pages->output.page != nullptr) {
    limits.output = options.rules.most_output;
    monitor.is_output_full = [meter = pages->output.page.get()] { return meter->IsReached(); };
  }
  monitor.limits = limits;
  PreparedFiles prepared(
      options.engine == EngineChoice::kKvm ? kNothingPrepared : options.prepared.value_or(kPreparedDirectory));
  absl::StatusOr<SessionEnd> end =
      RunUnderMonitor(monitor, [&](confinement::Namespaces& namespaces) {
        _exit(BecomeGuest(begun, std::move(prepared), namespaces, *std::move(pages)));
      });
  if (!end.ok()) return Fail(kExitRuntimeError, end.status());
  const RefusedLimits refused = RefusedBy(pages->notes.page.get());
  WriteStatus(options.status_fd, EndedLine(*end, refused));
  if (const std::string line = RefusalMessage(refused, limits); !line.empty()) {
    errors::Say(Id::kLimitRefused, line);
  }
  absl::Status failure = LimitFailure(*end, limits);
  if (failure.ok()) failure = FilterFailure(*end, options.plan);
  return failure.ok() ? end->exit_status : Fail(end->exit_status, failure);
}

std::optional<int> ResumeDescriptor(std::span<const std::string> arguments) {
  if (arguments.size() != 1) return std::nullopt;
  absl::string_view number(arguments[0]);
  int fd = -1;
  if (!absl::ConsumePrefix(&number, process::kResumeOption) || !absl::SimpleAtoi(number, &fd)) {
    return std::nullopt;
  }
  return fd;
}

int ResumeSession(int state_fd) {
  if (absl::Status status = EnsureUserHalfIsFree(); !status.ok()) {
    return Fail(kExitRuntimeError, Named(Id::kUserHalfTaken, status));
  }
  _exit(ContinueSession(state_fd));
}

}  // namespace dunebox::runtime
