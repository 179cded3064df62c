// Ends everything below this process, which is a subreaper: the children of what dies become ours. Strangers are spared: the
// children that it had before (of a shell that has executed it in its own place).
//
// procfs has the list of children. That it cannot be had, or that the kernel refuses a signal, may be so for a moment only;
// who asks is not left waiting for ever where it stays so.
//
//   absl::StatusOr<Strangers> strangers = Strangers::Note();      // before the first child of our own
//   if (absl::Status status = KillTree(*strangers); !status.ok()) ...  // some may live on
#ifndef DUNEBOX_RUNTIME_KILL_TREE_H_
#define DUNEBOX_RUNTIME_KILL_TREE_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dunebox::runtime {

class Strangers {
 public:
  Strangers() = default;  // none
  static absl::StatusOr<Strangers> Note();

  bool Has(pid_t process) const;
  bool empty() const { return processes_.empty(); }
  // It has ended and was waited for: its number may be somebody else's.
  void Forget(pid_t process) { std::erase(processes_, process); }

 private:
  std::vector<pid_t> processes_;
};

absl::Status KillTree(Strangers strangers = {});

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_KILL_TREE_H_
