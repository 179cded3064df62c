// Is this the process that made its sandboxes, or a child that it has forked, by whatever call? A child has the
// memory of its parent and none of its threads: there every call into a sandbox is refused.
//
//   NoteOriginalProcess();           // when the first sandbox is made
//   if (!IsOriginalProcess()) return absl::FailedPreconditionError(...);
#ifndef DUNEBOX_SANDBOX_PLUGIN_ORIGINAL_PROCESS_H_
#define DUNEBOX_SANDBOX_PLUGIN_ORIGINAL_PROCESS_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"

namespace dunebox::plugin {

void NoteOriginalProcess();
namespace original_process {
// Not 0 in the original: of a page that the kernel gives children empty, _Fork's and clone's as well. Null: there has
// been no sandbox yet.
inline constinit std::atomic<const std::uint32_t*> mark{nullptr};
}
inline bool IsOriginalProcess() {
  const std::uint32_t* const mark = original_process::mark.load(std::memory_order_acquire);
  return mark == nullptr || *mark != 0;
}
// What calls in a child are refused with; OK in the original.
absl::Status CheckOriginalProcess();

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_ORIGINAL_PROCESS_H_
