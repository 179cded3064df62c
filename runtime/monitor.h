// The monitor: the process that `dunebox run` stays as while the program runs.
//
//   monitor ── guardian ─┬─ program ── its children ...
//                        └─ first process of the pid namespace (confinement/first_process.h)
//
// The monitor reports the end as an exit status, passes on signals that somebody sends to it, and
// stops and continues with the program; the guardian does not stop. The program is in the same
// process group and session, so what the terminal sends reaches it directly. The guardian is the
// subreaper of everything the program starts: when the monitor or the program's first process is
// gone it kills what is left, so that even kill -9 of the monitor ends the whole tree. When the
// guardian itself is killed, the monitor does the same.
//
// With a pid namespace the first process in it buries the orphans, and all in it die with that one,
// which the kernel kills with the guardian.
//
// The guardian also keeps the limits of time, since all that it ends is below it: it kills the tree
// and tells the monitor which limit it was. A program that stops the guardian stops that clock.
#ifndef DUNEBOX_RUNTIME_MONITOR_H_
#define DUNEBOX_RUNTIME_MONITOR_H_

#include <functional>

#include "absl/status/statusor.h"
#include "runtime/confinement/namespaces.h"
#include "runtime/confinement/plan.h"
#include "runtime/limits/session_end.h"
#include "runtime/limits/session_limits.h"

namespace dunebox::runtime {

struct MonitorOptions {
  confinement::Plan plan;
  // Called in the guardian, before the program's process is made.
  confinement::Namespaces::PlanWithoutView plan_without_view;
  SessionLimits limits;          // those of time; the others are each process's own
  std::function<bool()> is_output_full;  // empty: there is no limit of output
  bool die_with_parent = false;  // kill the tree when the process that started us is gone
};

using RunProgram = std::function<void(confinement::Namespaces&)>;

// Forks; the grandchild calls `run_program`, which enters the namespaces when it has what it needs of
// the host's, and never returns. The exit status to report is the
// program's own, 128 + n, or that of a limit.
absl::StatusOr<SessionEnd> RunUnderMonitor(const MonitorOptions& options,
                                           const RunProgram& run_program);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_MONITOR_H_
