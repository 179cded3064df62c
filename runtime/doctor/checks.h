// The collectors: each looks at one thing of a Host and says what it found and what to do.
//
// They change nothing, print nothing and never fail: what cannot be found out is a finding.
// Families: checks_machine.cc (kernel, CPU), checks_kvm.cc (/dev/kvm, the probe, the engines),
// checks_confinement.cc (what the walls are built of), checks_limits.cc (limits, address layout).
//
//   Check kernel = CheckKernel(host);
//   if (kernel.state != State::kOk) Print(kernel.advice);
#ifndef DUNEBOX_RUNTIME_DOCTOR_CHECKS_H_
#define DUNEBOX_RUNTIME_DOCTOR_CHECKS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/doctor/check.h"
#include "runtime/doctor/host.h"
#include "runtime/kvm/probe.h"

namespace dunebox::doctor {

Check CheckKernel(const Host& host);
Check CheckProcessor(const Host& host);
Check CheckProcessorFeatures(const Host& host);
Check CheckVirtualizationFlags(const Host& host);

// Missing, forbidden or usable, and the version of its interface.
Check CheckKvmDevice(const Host& host);
// `probe` is the result of host.probe(), which runs only once for the whole report.
Check CheckKvmProbe(const absl::StatusOr<kvm::Probe>& probe);
// `translation` is the result of host.translation().
Check CheckJitEngine(const absl::Status& translation);
// What a run's ChooseEngine takes, and why.
EngineDecision DecideEngine(const Check& virtualization, const Check& device,
                            const absl::StatusOr<kvm::Probe>& probe,
                            const absl::Status& translation);

// Of translated code.
Check CheckIsolations(const Host& host);
// What `dunebox prepare` has left for all runs.
Check CheckPrepared(const Host& host);
Check CheckProtectionKeys(const Host& host);
Check CheckLandlock(const Host& host);
Check CheckUserNamespaces(const Host& host);
// `possible` is the result of host.namespaces(), which runs only once for the whole report.
Check CheckNamespace(const Host& host, const absl::StatusOr<confinement::MechanismSet>& possible,
                     confinement::Mechanism mechanism);
Check CheckSeccomp(const Host& host);
Check CheckDefaultRights();

Check CheckOpenFiles(const Host& host);
Check CheckMappingCount(const Host& host);
Check CheckStackLimit(const Host& host);
Check CheckAddressLayout(const Host& host);

// All of them, in the order of the report.
Report Examine(const Host& host);

}  // namespace dunebox::doctor

#endif  // DUNEBOX_RUNTIME_DOCTOR_CHECKS_H_
