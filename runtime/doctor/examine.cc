#include "runtime/doctor/checks.h"

namespace dunebox::doctor {

Report Examine(const Host& host) {
  const Check virtualization = CheckVirtualizationFlags(host);
  const Check device = CheckKvmDevice(host);
  const absl::StatusOr<kvm::Probe> probe = host.probe();
  const absl::Status translation = host.translation();
  const absl::StatusOr<confinement::MechanismSet> namespaces = host.namespaces();
  const auto of = [&](confinement::Mechanism mechanism) {
    return CheckNamespace(host, namespaces, mechanism);
  };
  return {.checks = {CheckKernel(host), CheckProcessor(host), CheckProcessorFeatures(host),
                     virtualization, device, CheckKvmProbe(probe), CheckJitEngine(translation),
                     CheckIsolations(host), CheckPrepared(host),
                     CheckProtectionKeys(host), CheckLandlock(host), CheckUserNamespaces(host),
                     of(confinement::Mechanism::kMountNamespace),
                     of(confinement::Mechanism::kPidNamespace),
                     of(confinement::Mechanism::kNetworkNamespace),
                     of(confinement::Mechanism::kIpcNamespace),
                     of(confinement::Mechanism::kUtsNamespace), CheckSeccomp(host),
                     CheckOpenFiles(host), CheckMappingCount(host), CheckStackLimit(host),
                     CheckAddressLayout(host), CheckDefaultRights()},
          .engine = DecideEngine(virtualization, device, probe, translation)};
}

}  // namespace dunebox::doctor
