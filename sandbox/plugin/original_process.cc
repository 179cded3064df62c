#include "sandbox/plugin/original_process.h"

#include <pthread.h>

namespace dunebox::plugin {

void NoteOriginalProcess() {
  [[maybe_unused]] static const int noted =
      pthread_atfork(nullptr, nullptr, [] { original_process::is_forked_child = true; });
}

absl::Status CheckOriginalProcess() {
  if (IsOriginalProcess()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "a sandbox of the parent's cannot be used in a forked child");
}

}  // namespace dunebox::plugin
