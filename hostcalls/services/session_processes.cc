#include "hostcalls/services/session_processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/reserved_fd.h"
#include "hostcalls/services/separate_descriptors.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9
constexpr unsigned kSignalThread = 1, kSignalGroup = 4;  // PIDFD_SIGNAL_* [linux]
constexpr int kIoPriorityProcess = 1;  // IOPRIO_WHO_PROCESS; its header is not for C++
constexpr int kMostSteps = 1 << 16;  // a walk up; parents that die make steps of it anew
constexpr int kMostPasses = 100;     // over all processes, for those that are being made

// A descriptor of the separate table.
class Descriptor {
 public:
  explicit Descriptor(long fd) : fd_(static_cast<int>(fd)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  const int fd_;
};

// Behind the command name, which may hold anything. [linux] /proc/<pid>/stat
struct ProcessStatus {
  pid_t parent = 0;
  pid_t group = 0;
};

// procfs as the runtime has it pinned. Only used with a separate descriptor table.
class ProcessTable {
 public:
  explicit ProcessTable(const Caller& caller)
      : proc_(NumberOf(ReservedSlot::kProc, caller.reserved)), root_(caller.session_root) {}

  std::optional<ProcessStatus> Read(pid_t process) const;
  bool IsOfSession(pid_t process) const;
  // The process that a thread belongs to; 0: there is none.
  pid_t ProcessOf(pid_t thread) const { return Number(absl::StrCat(thread, "/status"), "Tgid:"); }
  // Whom a pidfd holds; 0 when it is none, or its process is gone.
  pid_t HeldBy(int descriptor) const {
    return Number(absl::StrCat("thread-self/fdinfo/", descriptor), "Pid:");
  }
  std::vector<pid_t> All() const;

 private:
  std::string Text(const std::string& path) const;
  // Of the line that begins with `name`.
  pid_t Number(const std::string& path, std::string_view name) const;

  const int proc_;
  const pid_t root_;
};

std::string ProcessTable::Text(const std::string& path) const {
  const Descriptor file(openat(proc_, path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(4096, '\0');
  const ssize_t size = file.valid() ? read(file.get(), text.data(), text.size()) : 0;
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  return text;
}

pid_t ProcessTable::Number(const std::string& path, std::string_view name) const {
  const std::string text = Text(path);
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.substr(0, name.size()) != absl::string_view(name.data(), name.size())) continue;
    pid_t number = 0;
    return absl::SimpleAtoi(line.substr(name.size()), &number) && number > 0 ? number : 0;
  }
  return 0;
}

std::optional<ProcessStatus> ProcessTable::Read(pid_t process) const {
  const std::string text = Text(absl::StrCat(process, "/stat"));
  const std::size_t end_of_name = text.rfind(')');
  if (end_of_name == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields =
      absl::StrSplit(text.substr(end_of_name + 1), ' ', absl::SkipEmpty());
  ProcessStatus status;
  if (fields.size() < 3 || !absl::SimpleAtoi(fields[1], &status.parent) ||
      !absl::SimpleAtoi(fields[2], &status.group)) {
    return std::nullopt;
  }
  return status;
}

bool ProcessTable::IsOfSession(pid_t process) const {
  pid_t at = process;
  for (int step = 0; step < kMostSteps; ++step) {
    const std::optional<ProcessStatus> own = Read(at);
    if (!own) return false;
    if (own->parent == root_) return true;
    if (own->parent == 0) return false;
    const std::optional<ProcessStatus> next = Read(own->parent);
    const std::optional<ProcessStatus> again = Read(at);
    if (!again) return false;
    // Gone, so that what was read may be about another one: `at` has a new parent.
    if (again->parent != own->parent || !next) continue;
    at = own->parent;
  }
  return false;
}

std::vector<pid_t> ProcessTable::All() const {
  std::vector<pid_t> processes;
  DIR* const directory = fdopendir(openat(proc_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory == nullptr) return processes;
  while (const dirent* entry = readdir(directory)) {
    const int number = ParseProcNumber(entry->d_name);
    if (number > 0) processes.push_back(number);
  }
  closedir(directory);
  return processes;
}

// ---- Which arguments name processes ------------------------------------------------------------

constexpr int kNone = -1;
struct Target {
  std::string_view call;
  int kind;  // the argument that says what the other is, or kNone
  int argument;
};
constexpr Target kTargets[] = {
#define TARGET(call, argument) {#call, kNone, argument},
#define TARGET_OF_KIND(call, which, who) {#call, which, who},
#include "hostcalls/services/process_targets.inc"
#undef TARGET_OF_KIND
#undef TARGET
};

const Target* TargetOf(const Row& row) {
  static const auto by_number = [] {
    std::array<const Target*, kSyscallTableSize> targets{};
    for (const Target& target : kTargets) targets[FindRow(target.call)->number] = &target;
    return targets;
  }();
  return by_number[row.number];
}

// ---- Asking -------------------------------------------------------------------------------------

SyscallResult Deny(Caller& caller, std::string_view action, pid_t process) {
  const bool refused =
      caller.guard->Refuse(caller, {.action = action,
                                    .object = absl::StrCat("process ", process),
                                    .origin = 0,
                                    .cure = "--allow=all",
                                    .error = EPERM});
  return refused ? SyscallResult(Errno{EPERM}) : kSuccess;
}

enum class Whose : unsigned char { kNobodys, kSessions, kStrangers };

SyscallResult Answer(Caller& caller, std::string_view action, pid_t process, Whose whose) {
  switch (whose) {
    case Whose::kNobodys:
      return Errno{ESRCH};
    case Whose::kSessions:
      return kSuccess;
    case Whose::kStrangers:
      return Deny(caller, action, process);
  }
  return Errno{EPERM};
}

Whose WhoseIs(const ProcessTable& table, pid_t process) {
  if (table.IsOfSession(process)) return Whose::kSessions;
  return table.Read(process) ? Whose::kStrangers : Whose::kNobodys;
}

// ---- Sending ------------------------------------------------------------------------------------

SyscallResult SendThrough(int pidfd, const SignalToSend& signal, unsigned flags) {
  const long sent = syscall(SYS_pidfd_send_signal, pidfd, signal.signal, signal.info, flags);
  return sent == 0 ? kSuccess : SyscallResult(LastErrno());
}

// What a separate thread found out, and what it did if it was allowed.
struct Sent {
  Whose whose = Whose::kNobodys;
  SyscallResult result = Errno{ESRCH};
};

// Holds the process or thread, looks whose it is, and signals it when it is the session's; with an
// audit also when not.
Sent HoldAndSend(const ProcessTable& table, pid_t id, const SignalToSend& signal, unsigned open,
                 unsigned send, bool audit) {
  const Descriptor held(syscall(SYS_pidfd_open, id, open));
  if (!held.valid()) {
    // A kernel that has no such descriptors of threads.
    if (errno == EINVAL) return {.whose = Whose::kStrangers, .result = Errno{EPERM}};
    return {};
  }
  Sent sent{.whose = WhoseIs(table, id), .result = Errno{EPERM}};
  if (sent.whose == Whose::kSessions || (audit && sent.whose == Whose::kStrangers)) {
    sent.result = SendThrough(held.get(), signal, send);
  }
  return sent;
}

SyscallResult Report(Caller& caller, pid_t process, const Sent& sent) {
  if (sent.whose != Whose::kStrangers) return sent.result;
  const SyscallResult denied = Deny(caller, "signal", process);
  return denied.ok() ? sent.result : denied;
}

}  // namespace

SyscallResult RequireSessionProcess(Caller& caller, std::string_view action, pid_t process) {
  if (!StaysInSession(caller) || process <= 0 || IsOwnTask(process)) return kSuccess;
  Whose whose = Whose::kNobodys;
  WithSeparateDescriptors([&] { whose = WhoseIs(ProcessTable(caller), process); });
  return Answer(caller, action, process, whose);
}

SyscallResult RequireSessionOwner(Caller& caller, std::string_view action, pid_t owner) {
  if (owner == std::numeric_limits<pid_t>::min()) return Errno{EINVAL};
  return RequireSessionProcess(caller, action, owner < 0 ? -owner : owner);
}

SyscallResult RequireForegroundGroup(Caller& caller, pid_t group) {
  if (group == getpgrp()) return kSuccess;
  if (caller.session_root > 0 && group == getpgid(caller.session_root)) return kSuccess;
  return RequireSessionProcess(caller, "give the terminal to", group);
}

SyscallResult RequireSessionTargets(Caller& caller, const Row& row,
                                    const ArgumentValues& arguments) {
  const Target* const target = TargetOf(row);
  if (target == nullptr || !StaysInSession(caller)) return kSuccess;
  const pid_t id = AsInt(arguments[static_cast<std::size_t>(target->argument)]);
  if (target->kind != kNone) {
    // Process groups and users hold strangers. The numbers of setpriority and ioprio differ.
    const int kind = AsInt(arguments[static_cast<std::size_t>(target->kind)]);
    const bool is_priority = row.number == SYS_getpriority || row.number == SYS_setpriority;
    if (kind != (is_priority ? int{PRIO_PROCESS} : kIoPriorityProcess)) {
      return Deny(caller, row.name, id);
    }
  }
  return RequireSessionProcess(caller, row.name, id);
}

SyscallResult SignalProcess(Caller& caller, pid_t process, const SignalToSend& signal) {
  Sent sent;
  const bool audit = caller.guard->rules().audit;
  WithSeparateDescriptors([&] {
    const ProcessTable table(caller);
    // A thread's number stands for its process.
    const pid_t id = table.ProcessOf(process);
    if (id > 0) sent = HoldAndSend(table, id, signal, 0, 0, audit);
  });
  return Report(caller, process, sent);
}

SyscallResult SignalThread(Caller& caller, pid_t process, pid_t thread,
                           const SignalToSend& signal) {
  Sent sent;
  const bool audit = caller.guard->rules().audit;
  WithSeparateDescriptors([&] {
    const ProcessTable table(caller);
    if (process != 0 && table.ProcessOf(thread) != process) return;
    sent = HoldAndSend(table, thread, signal, kPidfdThread, kSignalThread, audit);
  });
  return Report(caller, thread, sent);
}

SyscallResult SignalHeld(Caller& caller, int descriptor, const SignalToSend& signal,
                         unsigned flags) {
  if ((flags & kSignalGroup) != 0) return Errno{EINVAL};  // as before Linux 6.9
  Sent sent;
  pid_t held = 0;
  const bool audit = caller.guard->rules().audit;
  WithSeparateDescriptors([&] {
    const ProcessTable table(caller);
    if (fcntl(descriptor, F_GETFD) < 0) {
      sent.result = Errno{EBADF};
      return;
    }
    // None: not a pidfd, or one of a process that is gone; both are the kernel's to say. The
    // directory of a process in procfs is not taken for a pidfd.
    held = table.HeldBy(descriptor);
    if (held == 0) {
      sent.result = SendThrough(descriptor, {.signal = 0, .info = nullptr}, flags);
      if (sent.result.ok()) sent.result = Errno{EBADF};
      return;
    }
    sent.whose = WhoseIs(table, held);
    const bool allowed = sent.whose == Whose::kSessions || audit;
    sent.result = allowed ? SendThrough(descriptor, signal, flags) : SyscallResult(Errno{EPERM});
  });
  return Report(caller, held, sent);
}

SyscallResult SignalSession(Caller& caller, std::optional<pid_t> group,
                            const SignalToSend& signal) {
  std::set<pid_t> done;
  bool any = false;
  const pid_t own = getpid();
  WithSeparateDescriptors([&] {
    const ProcessTable table(caller);
    // What is made meanwhile by those who are not stopped yet does not get away.
    const bool again = signal.signal == SIGKILL || signal.signal == SIGSTOP;
    bool more = true;
    for (int pass = 0; more && pass < (again ? kMostPasses : 1); ++pass) {
      more = false;
      for (const pid_t process : table.All()) {
        if (process == own || done.contains(process)) continue;
        const Descriptor held(syscall(SYS_pidfd_open, process, 0));
        if (!held.valid()) continue;
        const std::optional<ProcessStatus> status = table.Read(process);
        if (!status || (group && status->group != *group)) continue;
        if (!table.IsOfSession(process)) continue;
        done.insert(process);
        if (SendThrough(held.get(), signal, 0).ok()) any = more = true;
      }
    }
  });
  return any ? kSuccess : SyscallResult(Errno{ESRCH});
}

}  // namespace dunebox::hostcalls
