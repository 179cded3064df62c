// One `dunebox run`: what was asked for, and the way from there to an exit status.
//
//   SessionOptions options{.program = "/bin/ls", .arguments = {"ls", "-l"}};
//   return RunSession(options);   // 125/126/127 for our own failures, else the program's
#ifndef DUNEBOX_RUNTIME_SESSION_H_
#define DUNEBOX_RUNTIME_SESSION_H_

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "jit-fallback/emit/isolation.h"
#include "hostcalls/policy/rules.h"
#include "runtime/confinement/plan.h"
#include "runtime/debugger/listener.h"
#include "runtime/diagnostics.h"
#include "runtime/jit/code_cache_size.h"
#include "runtime/limits/environment.h"
#include "runtime/limits/session_limits.h"

namespace dunebox::runtime {

enum class EngineChoice : unsigned char { kAuto, kKvm, kJit };

// How the runtime reports the end of a session. [DESIGN "Exit status"]
inline constexpr int kExitLimit = 124;          // wall or CPU limit
inline constexpr int kExitRuntimeError = 125;   // Dunebox itself failed
inline constexpr int kExitCannotExecute = 126;  // the program exists but cannot be run
inline constexpr int kExitNotFound = 127;       // there is no such program
inline constexpr int kExitSignalBase = 128;     // 128 + n: ended by signal n

struct SessionOptions {
  EngineChoice engine = EngineChoice::kAuto;
  std::optional<unsigned> jit_cache;  // MiB; refused under kvm
  std::optional<jit::Isolation> isolation;  // nothing: the best that this machine offers
  // The directory with prepared translations, or jit::kNothingPrepared; nothing: the system's, if there is one and it fits.
  std::optional<std::string> prepared;
  int ring = 3;  // or 0: engine kvm on virtualization hardware only
  bool posted_writes = false;  // the same, and only with ring 3
  TraceFormat trace = TraceFormat::kNone;
  std::string trace_file;       // empty: standard error
  std::string core_file;        // empty: "core", where the program may write it
  std::string statistics_file;  // empty: standard error
  Diagnostics diagnostics;
  std::optional<debugger::ListenAddress> gdb;  // wait for a gdb there
  SessionLimits limits;
  EnvironmentChanges environment;
  hostcalls::policy::Rules rules;  // wall 1
  confinement::Plan plan;          // wall 2
  std::string directory;       // to start in; empty: the caller's
  // Makes the three what they are without a view of files of its own. Asked where no mount namespace can be had, which
  // nobody knows before one is made. Null: they are the same.
  std::function<absl::Status(SessionOptions&)> leave_out_view;
  int kvm_device = -1;         // /dev/kvm, already open; -1: by its name
  int status_fd = -1;          // where JSON lines about start and end go; -1: nowhere
  int denials_fd = -1;         // where JSON lines about denials go; -1: nowhere
  int code_fd = -1;            // where the code goes that is to be prepared (jit::AppendGuestCode); -1: nowhere
  int statistics_fd = -1;      // where statistics go; -1: to statistics_file
  bool die_with_parent = false;
  bool dry_run = false;
  std::string rights;  // for a dry run: what rules and plan say, in lines for people
  std::string program;                 // as given: searched in PATH when it has no slash
  std::vector<std::string> arguments;  // argv of the guest, argv[0] included
};

// Runs the program and returns what `dunebox run` exits with. Messages go to stderr.
int RunSession(const SessionOptions& options);

// The number of the descriptor when this is a runtime that execve made: its command line is
// "--resume=N" and nothing else. Nothing for every other command line.
std::optional<int> ResumeDescriptor(std::span<const std::string> arguments);
// Goes on with the program that an execve of the guest asked for. The exit status when it fails.
int ResumeSession(int state_fd);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_SESSION_H_
