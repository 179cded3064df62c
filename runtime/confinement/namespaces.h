// The namespaces of a session, from the guardian's side and from the program's.
//
//   guardian: Create, then fork         child: Enter, then the program
//
// The guardian stays in the host's file system; it enters no namespace but, for an ordinary user,
// the user namespace that owns the others. The program enters all of them and at last a user
// namespace of its own below that one, with the ids the plan says: whatever it becomes there, it
// has no right over the mounts.
//
//   absl::StatusOr<Namespaces> namespaces = Namespaces::Create(plan);
//   if (fork() == 0) { absl::Status status = namespaces->Enter(); ... }
#ifndef DUNEBOX_RUNTIME_CONFINEMENT_NAMESPACES_H_
#define DUNEBOX_RUNTIME_CONFINEMENT_NAMESPACES_H_

#include <functional>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/confinement/first_process.h"
#include "runtime/confinement/identity.h"
#include "runtime/confinement/mechanisms.h"
#include "runtime/confinement/plan.h"

namespace dunebox::confinement {

class Namespaces {
 public:
  // A plan that needs no mount namespace, in place of one that may need it.
  using PlanWithoutView = std::function<absl::StatusOr<Plan>()>;

  // In the guardian. Afterwards this process's children are in the pid namespace. What the machine
  // does not give is left out if the plan can do without it, else this fails. Where no mount namespace can be had
  // `plan_without_view`, if there is one, says what is to be without. Without
  // Plan::confine, or with Plan::is_in_place, nothing is made. Preconditions: one thread, every signal blocked.
  static absl::StatusOr<Namespaces> Create(const Plan& plan,
                                           const PlanWithoutView& plan_without_view = nullptr);

  // In the guardian's child, which has one thread. The current directory is then the root.
  absl::Status Enter();
  // In the guardian after the fork.
  void LeaveToChild();

  bool Has(Mechanism mechanism) const { return first_ && first_->had().Has(mechanism); }
  // /proc shows the session's processes alone, and what else is in it belongs to root, who is not the caller.
  bool HasOrdinaryProc() const {
    return !is_root_ && Has(Mechanism::kMountNamespace) && Has(Mechanism::kPidNamespace);
  }

 private:
  Namespaces(std::optional<FirstProcess> first, UserAndGroup identity, bool is_root)
      : first_(std::move(first)), identity_(identity), is_root_(is_root) {}

  std::optional<FirstProcess> first_;  // nothing: no namespaces
  UserAndGroup identity_;
  bool is_root_;  // the caller, outside of every namespace of ours
};

// What this user can have here, tried out with a plan that asks for nothing special. Fails with the
// reason when there is no mount and pid namespace.
absl::StatusOr<MechanismSet> ProbeNamespaces();

}  // namespace dunebox::confinement

#endif  // DUNEBOX_RUNTIME_CONFINEMENT_NAMESPACES_H_
