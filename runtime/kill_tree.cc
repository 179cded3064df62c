#include "runtime/kill_tree.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

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

// As many looks find strangers alone: then nobody else is there.
constexpr int kLooks = 3;

// The processes whose parent we are. While they come and go the kernel may leave some out.
absl::StatusOr<std::vector<pid_t>> Children() {
  const absl::StatusOr<std::string> text =
      ReadTextFile(absl::StrCat("/proc/self/task/", gettid(), "/children"));
  if (!text.ok()) return text.status();
  std::vector<pid_t> children;
  for (absl::string_view word : absl::StrSplit(*text, ' ', absl::SkipEmpty())) {
    pid_t child = 0;
    if (absl::SimpleAtoi(word, &child)) children.push_back(child);
  }
  return children;
}

// How many there were. Not OK: one of them may not have been sent the signal.
absl::StatusOr<std::size_t> KillChildren(const Strangers& strangers) {
  const absl::StatusOr<std::vector<pid_t>> children = Children();
  if (!children.ok()) return children.status();
  if (children->empty()) return absl::NotFoundError("the kernel does not say which processes are left");
  absl::Status status;
  std::size_t count = 0;
  for (const pid_t child : *children) {
    if (strangers.Has(child)) continue;
    ++count;
    if (kill(child, SIGKILL) == 0 || errno == ESRCH) continue;
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot end process ", child));
  }
  if (!status.ok()) return status;
  return count;
}

}  // namespace

absl::StatusOr<Strangers> Strangers::Note() {
  absl::StatusOr<std::vector<pid_t>> children = Children();
  if (!children.ok()) return errors::Named(errors::Id::kNoProc, children.status());
  Strangers strangers;
  strangers.processes_ = *std::move(children);
  return strangers;
}

bool Strangers::Has(pid_t process) const {
  return std::ranges::find(processes_, process) != processes_.end();
}

absl::Status KillTree(Strangers strangers) {
  for (int failures = 0, lonely_looks = 0;;) {
    const absl::StatusOr<std::size_t> killed = KillChildren(strangers);
    // Each death may bring new children, so after each one we look again. Strangers need not ever die.
    const bool may_wait = killed.ok() && strangers.empty();
    const pid_t buried = waitpid(-1, nullptr, may_wait ? 0 : WNOHANG);
    if (buried < 0 && errno == ECHILD) return absl::OkStatus();
    if (buried > 0) strangers.Forget(buried);
    if (may_wait || buried > 0) continue;
    lonely_looks = killed.ok() && *killed == 0 ? lonely_looks + 1 : 0;
    if (lonely_looks == kLooks) return absl::OkStatus();
    if (!killed.ok() && ++failures == kMostFailures) {
      return errors::Named(errors::Id::kProcessesLeft, killed.status());
    }
    nanosleep(&kPause, nullptr);
  }
}

}  // namespace dunebox::runtime
