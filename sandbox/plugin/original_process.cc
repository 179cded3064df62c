#include "sandbox/plugin/original_process.h"

#include <sys/mman.h>

#include "hostcalls/check.h"
#include "hostcalls/memory/address.h"

namespace dunebox::plugin {

void NoteOriginalProcess() {
  [[maybe_unused]] static const bool noted = [] {
    void* const page = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // [linux] since 4.14, of any private anonymous memory.
    DUNEBOX_CHECK(page != MAP_FAILED && madvise(page, kPageSize, MADV_WIPEONFORK) == 0,
                  "no page that tells a process from its children");
    auto* const mark = static_cast<std::uint32_t*>(page);
    *mark = 1;
    original_process::mark.store(mark, std::memory_order_release);
    return true;
  }();
}

absl::Status CheckOriginalProcess() {
  if (IsOriginalProcess()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "a sandbox of the parent's cannot be used in a forked child");
}

}  // namespace dunebox::plugin
