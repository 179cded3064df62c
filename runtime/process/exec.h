// execve: the runtime executes itself, and the new one finds the new program in a sealed memfd.
//
// All that can be refused is checked before the point of no return: the program is opened and
// parsed as the new runtime will do it.
#ifndef DUNEBOX_RUNTIME_PROCESS_EXEC_H_
#define DUNEBOX_RUNTIME_PROCESS_EXEC_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/result.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/session_state.h"

namespace dunebox::process {

// The hidden command-line option that names the memfd: "--resume=N".
inline constexpr char kResumeOption[] = "--resume=";

struct ExecRequest {
  std::string path;
  int program_fd = -1;  // to be executed itself; `path` is what it is called then
  int path_fd = -1;     // of the guest's, by which `path` leads to it
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
};

// Returns only when it fails.
hostcalls::SyscallResult Execute(GuestThread& thread, ExecRequest request);

// In the new runtime: the thread has the signals again that its predecessor has noted. Before its mask is set.
void TakeOverPending(GuestThread& thread, std::string_view pending);

// In the new runtime: reads and closes the memfd.
absl::StatusOr<ExecState> ReceiveExecState(int fd);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_EXEC_H_
