#include "runtime/process/exec.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/file_descriptor.h"
#include "runtime/loader/initial_stack.h"
#include "runtime/loader/program.h"
#include "runtime/process/process.h"
#include "runtime/process/report.h"
#include "runtime/process/signal_delivery.h"

namespace dunebox::process {

using hostcalls::Errno;
using hostcalls::ReservedFd;
using hostcalls::SyscallResult;

namespace {

constexpr unsigned kNoExecSeal = 0x8;  // MFD_NOEXEC_SEAL, Linux 6.3
// Auxiliary vector, padding and terminators of the initial stack, generously.
constexpr std::uint64_t kStackOverhead = 1024;
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

Errno ErrnoOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return Errno{ENOENT};
    case absl::StatusCode::kPermissionDenied:
      return Errno{EACCES};
    case absl::StatusCode::kFailedPrecondition:
      return Errno{ENOEXEC};
    case absl::StatusCode::kOutOfRange:
      return Errno{ELOOP};
    case absl::StatusCode::kInvalidArgument:
      return Errno{ENAMETOOLONG};
    case absl::StatusCode::kResourceExhausted:
      return Errno{E2BIG};
    default:
      return Errno{EIO};
  }
}

runtime::FileDescriptor MakeMemfd() {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = memfd_create("dunebox-exec", kFlags | kNoExecSeal);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("dunebox-exec", kFlags);  // an older kernel
  return runtime::FileDescriptor(fd);
}

// From its beginning, wherever its position is.
bool WriteAndSeal(int fd, const std::string& bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t written = pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (written < 0) return false;
    done += static_cast<std::size_t>(written);
  }
  return fcntl(fd, F_ADD_SEALS, kSeals) == 0;
}

// All that a file holds which nobody can change any more; nothing of any other file.
std::optional<std::string> ReadSealed(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size < 0 || (fcntl(fd, F_GET_SEALS) & kSeals) != kSeals) {
    return std::nullopt;
  }
  std::string bytes(static_cast<std::size_t>(info.st_size), '\0');
  const bool is_whole = pread(fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
  return is_whole ? std::optional(std::move(bytes)) : std::nullopt;
}

// Strings and the pointers to them, as the initial stack counts them.
std::uint64_t BytesOf(const std::vector<std::string>& strings) {
  std::uint64_t bytes = 0;
  for (const std::string& text : strings) bytes += text.size() + 1 + sizeof(std::uint64_t);
  return bytes;
}

bool KeepOverExec(int fd) { return fcntl(fd, F_SETFD, 0) == 0; }

hostcalls::CopyResult<ReservedFd> MakeReservedMemfd(hostcalls::VirtualLimits& limits) {
  const hostcalls::LowDescriptors::Window window(limits.low_descriptors);
  const runtime::FileDescriptor memfd = MakeMemfd();
  if (!memfd.valid()) return Errno{errno};
  return limits.Reserve(memfd.get());
}

// The state in the reserved range, where it survives the exec. The file had an ordinary number for a moment: a sibling
// may have put a file of its own there, or have another descriptor of it. The next runtime believes what it finds, so
// what counts is what is there when it is sealed.
hostcalls::CopyResult<ReservedFd> PackState(hostcalls::VirtualLimits& limits,
                                            const ExecState& state) {
  hostcalls::CopyResult<ReservedFd> file = MakeReservedMemfd(limits);
  if (!file.ok()) return file;
  const std::string bytes = Serialize(state);
  // A file like any other: beyond the limit the kernel would send SIGXFSZ.
  if (bytes.size() > state.file_size.rlim_cur) return Errno{E2BIG};
  if (fcntl(file->get(), F_GET_SEALS) < 0) return Errno{EIO};  // a sibling's, of another kind
  if (!WriteAndSeal(file->get(), bytes)) return Errno{ENOMEM};
  if (ReadSealed(file->get()) != bytes) return Errno{EIO};
  if (!KeepOverExec(file->get())) return Errno{errno};
  return file;
}

// A descriptor of the same file that gives no access by itself: closing it releases no locks.
hostcalls::CopyResult<ReservedFd> KeepFile(hostcalls::VirtualLimits& limits, int fd) {
  const hostcalls::LowDescriptors::Window window(limits.low_descriptors);
  const runtime::FileDescriptor low(
      open(hostcalls::DescriptorPath(fd).c_str(), O_PATH | O_CLOEXEC));
  if (!low.valid()) return Errno{errno};
  return limits.Reserve(low.get());
}

// The program is opened again after the point of no return, and asked about again there; this is
// where the caller gets its answer.
absl::Status MayExecute(GuestThread& thread, int fd) {
  const SyscallResult allowed =
      hostcalls::RequireRights(thread, fd, hostcalls::policy::kExecuteFile);
  return allowed.ok() ? absl::OkStatus() : absl::PermissionDeniedError("denied by the policy");
}

// Executes the runtime with the thread's next program.
Errno HandOver(GuestThread& thread) {
  Process& owner = thread.owner;
  const ExecState& state = *thread.next_program;
  auto packed = PackState(owner.limits(), state);
  if (!packed.ok()) return packed.error();

  std::string name = "dunebox";
  std::string option = absl::StrCat(kResumeOption, packed->get());
  char* const argv[] = {name.data(), option.data(), nullptr};
  char* const envp[] = {nullptr};
  const SessionState& session = state.session;
  for (const int fd : {session.trace_fd, session.report_fd, session.statistics_fd,
                       session.record_fd, session.prepared_fd, session.code_fd, session.perf_dump_fd, session.denials_fd, session.tasks_fd, session.output_fd,
                       session.notes_fd, session.kvm_fd, session.core_fd, session.gdb.fd}) {
    if (fd >= 0) KeepOverExec(fd);
  }
  if (owner.trace() != nullptr) owner.trace()->OnNoReturn();
  ReportEnd(owner);
  ReleaseRobustFutexes(thread);
  execveat(owner.session().runtime_fd, "", argv, envp, AT_EMPTY_PATH);
  const Errno failed{errno};
  owner.threads().ReleaseAfterAll(thread);
  return failed;
}

// The signals that have come to the thread and were not delivered: pending ones live on. Those that come from now on
// stay with the kernel, which brings them over.
std::string PackPending(GuestThread& thread) {
  signals::SetHostMask(~std::uint64_t{0});
  std::string packed;
  thread.signal.pending.ForEach([&](const siginfo_t& info) {
    packed.append(reinterpret_cast<const char*>(&info), sizeof(info));
  });
  return packed;
}

}  // namespace

SyscallResult Execute(GuestThread& thread, ExecRequest request) {
  Process& owner = thread.owner;
  hostcalls::VirtualLimits& limits = owner.limits();
  const hostcalls::Window& window = thread.memory.window();
  {
    const hostcalls::LowDescriptors::Window low(limits.low_descriptors);
    const std::string path =
        request.program_fd >= 0 ? hostcalls::DescriptorPath(request.program_fd) : request.path;
    absl::StatusOr<loader::Program> program = loader::OpenProgram(
        path, request.arguments, {GuestVirt{window.lowest}, GuestVirt{window.limit}},
        [&](int fd, const std::string&) { return MayExecute(thread, fd); });
    if (!program.ok()) return ErrnoOf(program.status());
    // The interpreter would find nothing by that name. [linux]
    const bool is_closed = request.path_fd >= 0 && (fcntl(request.path_fd, F_GETFD) & FD_CLOEXEC) != 0;
    if (program->is_script && is_closed) return Errno{ENOENT};
    const std::uint64_t needed = BytesOf(program->arguments) + BytesOf(request.environment) +
                                 request.path.size() + kStackOverhead;
    if (needed > loader::ArgumentLimit(limits.Get(RLIMIT_STACK).rlim_cur)) return Errno{E2BIG};
  }
  ReservedFd program_fd;
  if (request.program_fd >= 0) {
    auto copy = KeepFile(limits, request.program_fd);
    if (!copy.ok()) return copy.error();
    program_fd = *std::move(copy);
    KeepOverExec(program_fd.get());
  }
  SessionState kept = owner.session();
  kept.gdb = owner.debugger() == nullptr ? GdbConnection{} : owner.debugger()->Connection();
  // After a vfork the memory is the suspended parent's: what an execve that succeeds leaves here it would keep for ever, but the
  // thread is destroyed there.
  thread.next_program = std::make_unique<ExecState>(ExecState{.session = std::move(kept),
                                                              .path = std::move(request.path),
                                                              .program_fd = program_fd.get(),
                                                              .arguments = std::move(request.arguments),
                                                              .environment = std::move(request.environment),
                                                              .signal_mask = thread.signal.mask,
                                                              .personality = thread.personality,
                                                              .pending = PackPending(thread),
                                                              .descriptors = limits.Get(RLIMIT_NOFILE),
                                                              .stack = limits.Get(RLIMIT_STACK),
                                                              .address_space = limits.Get(RLIMIT_AS),
                                                              .data = limits.Get(RLIMIT_DATA),
                                                              .core = limits.Get(RLIMIT_CORE),
                                                              .file_size = limits.Get(RLIMIT_FSIZE)});
  const Errno failed = HandOver(thread);
  thread.next_program = nullptr;
  SetSignalMask(thread, thread.signal.mask);
  return failed;
}

void TakeOverPending(GuestThread& thread, std::string_view pending) {
  for (siginfo_t info; pending.size() >= sizeof(info); pending.remove_prefix(sizeof(info))) {
    std::memcpy(&info, pending.data(), sizeof(info));
    if (info.si_signo >= 1 && info.si_signo <= signals::kSignalCount) thread.signal.pending.Add(info.si_signo, info);
  }
}

absl::StatusOr<ExecState> ReceiveExecState(int fd) {
  const runtime::FileDescriptor memfd(fd);
  const std::optional<std::string> bytes = ReadSealed(fd);
  if (!bytes) return absl::InvalidArgumentError("--resume names no sealed state; it is for Dunebox itself");
  return ParseExecState(*bytes);
}

}  // namespace dunebox::process
