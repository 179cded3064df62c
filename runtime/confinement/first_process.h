// The first process of a session's pid namespace: it puts the namespaces together, and then only
// buries orphans. When it ends, by SIGKILL from the guardian or with it, the kernel kills
// everything in the namespace.
//
// It is not the program's parent: the guardian is, which enters the pid namespace with a child, so
// that exit status, stopping and the terminal stay between the guardian and the program. The
// program joins the other namespaces by the descriptor of this process. Without a pid namespace the
// first process ends as soon as the program has joined.
//
//   absl::StatusOr<FirstProcess> first = FirstProcess::Start(plan);
//   // in the program's process:
//   absl::Status status = first->Join();
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_FIRST_PROCESS_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_FIRST_PROCESS_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/confinement/mechanisms.h"
#include "runtime/confinement/plan.h"
#include "runtime/file_descriptor.h"

namespace dunebox::confinement {

class FirstProcess {
 public:
  // Forks it and waits until everything is in place. Fails, and leaves nothing behind, when the
  // mount namespace cannot be as planned, or the pid namespace if the plan has one. Others that
  // cannot be had are missing in `had()`. Preconditions: one thread, every signal blocked.
  static absl::StatusOr<FirstProcess> Start(const Plan& plan);

  const MechanismSet& had() const { return had_; }

  // Makes the children that this process forks from now on members of the pid namespace.
  absl::Status AdoptChildren() const;
  // In such a child: enters the other namespaces. The first process waits for this.
  absl::Status Join();
  // After the fork, by who does not join.
  void LeaveJoiningToChild() { joined_ = runtime::FileDescriptor(); }
  // Ends it, where nobody has joined.
  void Discard();

 private:
  FirstProcess(MechanismSet had, std::uint64_t root_mount, runtime::FileDescriptor process,
               runtime::FileDescriptor joined)
      : had_(had),
        root_mount_(root_mount),
        process_(std::move(process)),
        joined_(std::move(joined)) {}
  MechanismSet had_;
  std::uint64_t root_mount_;
  runtime::FileDescriptor process_;  // a pidfd
  runtime::FileDescriptor joined_;   // the end of a pipe that the first process reads
};

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_FIRST_PROCESS_H_
