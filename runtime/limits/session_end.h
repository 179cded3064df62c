// How a session ended, and the words for it: one line on stderr when a limit ended it, one JSON
// object a line for --json-status-fd.
//
//   {"event":"started","pid":4711,"engine":"jit","isolation":"pku"}
//   {"event":"ended","exit_status":124,"signal":null,"reason":"limit","limit":"wall-time",
//    "refused":[]}
//
// `refused` names the limits that have refused the program something, whatever it made of that.
// A session whose program cannot be started has no "started" line. `exit_status` is what `dunebox
// run` exits with; `signal` is the one that ended the program's first process.
#ifndef DUNEBOX_RUNTIME_LIMITS_SESSION_END_H_
#define DUNEBOX_RUNTIME_LIMITS_SESSION_END_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "runtime/limits/session_limits.h"

namespace dunebox::runtime {

enum class EndReason : unsigned char {
  kExited,
  kSignaled,
  kWallTime,
  kCpuTime,
  kMemory,
  kFileSize,
  kOutput,
  kParentGone
};

// Travels from the guardian to the monitor as bytes.
struct SessionEnd {
  EndReason reason = EndReason::kExited;
  int exit_status = 0;
  int signal = 0;  // with kSignaled, kMemory and kFileSize
};

// "killed: wall time limit 10s reached", with its id; OK when no limit was.
absl::Status LimitFailure(const SessionEnd& end, const SessionLimits& limits);
// Limits that a program is not killed by: an errno is all it gets. [services/limit_notes.h]
struct RefusedLimits {
  bool memory = false;
  bool tasks = false;
  bool open_files = false;
  bool file_size = false;
};
// "the program was refused more than its limits: memory 512M, open files 64"; empty for none.
std::string RefusalMessage(const RefusedLimits& refused, const SessionLimits& limits);

std::string StartedLine(int pid, std::string_view engine, std::string_view isolation);
std::string EndedLine(const SessionEnd& end, const RefusedLimits& refused);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_LIMITS_SESSION_END_H_
