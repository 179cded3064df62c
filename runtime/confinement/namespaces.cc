#include "runtime/confinement/namespaces.h"

#include <sched.h>
#include <unistd.h>

#include <cerrno>

namespace dunebox::confinement {
namespace {

constexpr Mechanism kNamespaces[] = {Mechanism::kUserNamespace, Mechanism::kMountNamespace,
                                     Mechanism::kPidNamespace,  Mechanism::kNetworkNamespace,
                                     Mechanism::kIpcNamespace,  Mechanism::kUtsNamespace};

absl::Status LeaveOutAll(const Plan& plan, const absl::Status& reason) {
  for (const Mechanism mechanism : kNamespaces) {
    if (absl::Status status = LeaveOut(plan, mechanism, reason); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Those that a first process can do without.
absl::Status LeaveOutMissing(const Plan& plan, const MechanismSet& had) {
  const absl::Status reason = absl::UnavailableError("the kernel refuses to make one");
  for (const Mechanism mechanism : kNamespaces) {
    if (had.Has(mechanism)) continue;
    if (absl::Status status = LeaveOut(plan, mechanism, reason); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MechanismSet> ProbeNamespaces() {
  absl::StatusOr<FirstProcess> first = FirstProcess::Start({.confine = true});
  if (!first.ok()) return first.status();
  const MechanismSet had = first->had();
  first->Discard();
  return had;
}

absl::StatusOr<Namespaces> Namespaces::Create(const Plan& plan,
                                              const PlanWithoutView& plan_without_view) {
  const UserAndGroup identity = IdentityOf(plan.identity, UserAndGroup::Current());
  const bool is_root = geteuid() == 0;
  if (!plan.confine || plan.is_in_place) return Namespaces(std::nullopt, identity, is_root);
  absl::StatusOr<FirstProcess> first = FirstProcess::Start(plan);
  if (!first.ok()) {
    // Is it the machine, or what the plan asks for?
    const absl::StatusOr<MechanismSet> possible = ProbeNamespaces();
    if (possible.ok()) return first.status();
    const absl::StatusOr<Plan> rest = plan_without_view ? plan_without_view() : plan;
    if (!rest.ok()) return rest.status();
    if (absl::Status status = LeaveOutAll(*rest, possible.status()); !status.ok()) return status;
    return Namespaces(std::nullopt, identity, is_root);
  }
  if (absl::Status status = LeaveOutMissing(plan, first->had()); !status.ok()) return status;
  if (absl::Status status = first->AdoptChildren(); !status.ok()) return status;
  return Namespaces(*std::move(first), identity, is_root);
}

absl::Status Namespaces::Enter() {
  if (!first_) return absl::OkStatus();
  if (absl::Status status = first_->Join(); !status.ok()) return status;
  if (!Has(Mechanism::kUserNamespace)) return absl::OkStatus();
  if (unshare(CLONE_NEWUSER) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make the program's user namespace");
  }
  return MapCaller({.uid = 0, .gid = 0}, identity_);
}

void Namespaces::LeaveToChild() {
  if (first_) first_->LeaveJoiningToChild();
}

}  // namespace dunebox::confinement
