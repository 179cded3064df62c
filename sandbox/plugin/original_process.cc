#include "sandbox/plugin/original_process.h"

#include <pthread.h>

#include <atomic>

namespace dunebox::plugin {
namespace {

std::atomic<bool> is_forked_child{false};

}  // namespace

void NoteOriginalProcess() {
  [[maybe_unused]] static const int noted =
      pthread_atfork(nullptr, nullptr, [] { is_forked_child = true; });
}

bool IsOriginalProcess() { return !is_forked_child.load(std::memory_order_relaxed); }

absl::Status CheckOriginalProcess() {
  if (IsOriginalProcess()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "a sandbox of the parent's cannot be used in a forked child");
}

}  // namespace dunebox::plugin
