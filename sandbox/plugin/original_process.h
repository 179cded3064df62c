// Is this the process that made its sandboxes, or a child that it has forked? A child has the
// memory of its parent and none of its threads: there every call into a sandbox is refused.
//
//   NoteOriginalProcess();           // when the first sandbox is made
//   if (!IsOriginalProcess()) return absl::FailedPreconditionError(...);
#ifndef DUNEBOX_SANDBOX_PLUGIN_ORIGINAL_PROCESS_H_
#define DUNEBOX_SANDBOX_PLUGIN_ORIGINAL_PROCESS_H_

#include <atomic>

#include "absl/status/status.h"

namespace dunebox::plugin {

void NoteOriginalProcess();
namespace original_process {
inline constinit std::atomic<bool> is_forked_child{false};
}
inline bool IsOriginalProcess() {
  return !original_process::is_forked_child.load(std::memory_order_relaxed);
}
// What calls in a child are refused with; OK in the original.
absl::Status CheckOriginalProcess();

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_ORIGINAL_PROCESS_H_
