// What a session carries from one program to the next across execve: everything the re-executed
// runtime must know and must not be told by the environment or the command line. It travels in a
// sealed memfd.
#ifndef DUNEBOX_RUNTIME_PROCESS_SESSION_STATE_H_
#define DUNEBOX_RUNTIME_PROCESS_SESSION_STATE_H_

#include <sys/resource.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/dispatch/caller.h"
#include "hostcalls/policy/rules.h"
#include "jit-fallback/emit/isolation.h"
#include "runtime/confinement/lock_down.h"
#include "runtime/diagnostics.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/program_ring.h"

namespace dunebox::process {

enum class EngineKind : unsigned char { kKvm, kJit };

constexpr std::string_view NameOf(EngineKind engine) {
  return engine == EngineKind::kKvm ? "kvm" : "jit";
}

// A gdb at the other end of a socket, and what it has agreed on with us so far.
struct GdbConnection {
  int fd = -1;  // reserved; -1: nobody debugs
  bool without_acks = false;
  bool multiprocess = false;
};

// Fixed for the whole session, from `dunebox run` on.
struct SessionState {
  // Does somebody want to see every call, so that the engine may answer none by itself?
  bool sees_every_call() const {
    return trace != runtime::TraceFormat::kNone || diagnostics.counts_calls() || gdb.fd >= 0;
  }

  hostcalls::ReservedDescriptors reserved{};  // where the descriptors lie that are the runtime's
  int runtime_fd = -1;  // reserved, O_PATH: what execve executes; each runtime opens its own
  int trace_fd = -1;    // reserved: where --trace goes; -1: nowhere
  int report_fd = -1;   // reserved: standard error as it was when the session began
  int statistics_fd = -1;  // reserved, may be report_fd: where --stats goes; -1: nowhere
  int record_fd = -1;   // reserved, O_PATH: the directory of --jit-record; -1: none
  int prepared_fd = -1;  // reserved: prepared translations (jit/prepared_file.h); -1: none
  int code_fd = -1;      // reserved: where the guest's blocks go, to be prepared; -1: nowhere
  int perf_dump_fd = -1;  // reserved, O_PATH: the directory of --jit-perf-dump; -1: none
  std::uint64_t perf_dump_since = 0;  // PerfDump::Place::since
  int denials_fd = -1;  // reserved: where denials go as JSON lines; -1: nowhere
  int tasks_fd = -1;    // reserved: the slots of --pids (limits/task_slots.h); -1: no limit
  int output_fd = -1;   // reserved: the count of --output (services/output_meter.h); -1: no limit
  int notes_fd = -1;    // reserved: what limits refused (services/limit_notes.h); -1: none does
  int core_fd = -1;     // reserved: where --core-file goes; -1: to "core"
  GdbConnection gdb;    // of this process, not of all in the session
  std::uint64_t memory_limit = 0;  // bytes of each process (AddressSpace::LimitData); 0: none
  runtime::TraceFormat trace = runtime::TraceFormat::kNone;  // with trace_fd
  runtime::Diagnostics diagnostics;
  // Reserved: /dev/kvm, opened once. A program that has given up its rights or changed its root
  // could not open it any more, but still forks and executes.
  int kvm_fd = -1;
  EngineKind engine = EngineKind::kKvm;
  unsigned jit_cache = 0;  // MiB, with EngineKind::kJit
  jit::Isolation isolation = jit::Isolation::kNone;  // with EngineKind::kJit
  kvm::Probe probe;                                  // with EngineKind::kKvm
  bool posted_writes = false;  // on virtualization hardware only, in ring 3
  kvm::ProgramRing ring = kvm::ProgramRing::kRing3;  // kRing0: with EngineKind::kKvm only
  pid_t root = 0;  // the parent of the session's first process: Caller::session_root
  hostcalls::policy::Rules rules;  // what the session's policy permits
  confinement::Confinement confinement;  // what the kernel forbids; each runtime looks that it does
};

// One execve.
struct ExecState {
  SessionState session;
  std::string path;     // to be opened; AT_EXECFN
  int program_fd = -1;  // open this instead of `path` (execveat with an empty path)
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::uint64_t signal_mask = 0;
  std::uint32_t personality = 0;  // Caller::personality
  std::string pending;  // siginfo_t of each signal that was noted and not delivered
  rlimit descriptors{};  // the virtual limits
  rlimit stack{};
  rlimit address_space{};
  rlimit data{};
  rlimit core{};
  rlimit file_size{};
};

// Length-prefixed fields in one order; Parse refuses anything that Serialize did not write.
std::string Serialize(const ExecState& state);
absl::StatusOr<ExecState> ParseExecState(std::string_view bytes);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_SESSION_STATE_H_
