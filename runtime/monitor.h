// The monitor: the process that `dunebox run` stays as while the program runs.
//
//   monitor ── guardian ── program ── its children ...
//
// The monitor reports the end as an exit status, passes on signals that somebody sends to it, and
// stops and continues with the program. The program is in the same process group and session, so
// what the terminal sends reaches it directly. The guardian is the subreaper of everything the
// program starts: when the monitor or the program's first process is gone it kills what is left, so
// that even kill -9 of the monitor ends the whole tree. When the guardian itself is killed, the
// monitor does the same.
#ifndef DUNEBOX_RUNTIME_MONITOR_H_
#define DUNEBOX_RUNTIME_MONITOR_H_

#include <functional>

#include "absl/status/statusor.h"

namespace dunebox::runtime {

// Forks; the grandchild calls `run_program`, which never returns. Returns the exit status to
// report: the program's own, or 128 + n.
absl::StatusOr<int> RunUnderMonitor(const std::function<void()>& run_program);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_MONITOR_H_
