// Ends everything below this process, which is a subreaper: the children of what dies become ours.
//
// procfs has the list of children. That it cannot be had, or that the kernel refuses a signal, may be so for a moment only;
// who asks is not left waiting for ever where it stays so.
//
//   if (absl::Status status = KillTree(); !status.ok()) ...  // some may live on
#ifndef DUNEBOX_RUNTIME_KILL_TREE_H_
#define DUNEBOX_RUNTIME_KILL_TREE_H_

#include "absl/status/status.h"

namespace dunebox::runtime {

absl::Status KillTree();

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_KILL_TREE_H_
