#include "runtime/kill_tree.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/errors/message.h"
#include "runtime/text_file.h"

namespace dunebox::runtime {
namespace {

// Together a second.
constexpr int kMostFailures = 100;
constexpr timespec kPause = {.tv_sec = 0, .tv_nsec = 10'000'000};

// The processes whose parent we are. Not OK: one of them may not have been sent the signal.
absl::Status KillChildren() {
  const absl::StatusOr<std::string> children =
      ReadTextFile(absl::StrCat("/proc/self/task/", gettid(), "/children"));
  if (!children.ok()) return children.status();
  // While children come and go the kernel may leave some out.
  if (children->empty()) return absl::NotFoundError("the kernel does not say which processes are left");
  absl::Status status;
  for (absl::string_view word : absl::StrSplit(*children, ' ', absl::SkipEmpty())) {
    pid_t child = 0;
    if (!absl::SimpleAtoi(word, &child) || kill(child, SIGKILL) == 0 || errno == ESRCH) continue;
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot end process ", child));
  }
  return status;
}

}  // namespace

absl::Status KillTree() {
  for (int failures = 0;;) {
    const absl::Status killed = KillChildren();
    // Each death may bring new children, so after each one we look again.
    const pid_t buried = waitpid(-1, nullptr, killed.ok() ? 0 : WNOHANG);
    if (buried < 0 && errno == ECHILD) return absl::OkStatus();
    if (killed.ok() || buried > 0) continue;
    if (++failures == kMostFailures) return errors::Named(errors::Id::kProcessesLeft, killed);
    nanosleep(&kPause, nullptr);
  }
}

}  // namespace dunebox::runtime
