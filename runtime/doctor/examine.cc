#include "runtime/doctor/checks.h"

namespace dunebox::doctor {

Report Examine(const Host& host) {
  const Check device = CheckKvmDevice(host);
  const absl::StatusOr<kvm::Probe> probe = host.probe();
  return {.checks = {CheckKernel(host), CheckProcessor(host), CheckProcessorFeatures(host),
                     CheckVirtualizationFlags(host), device, CheckKvmProbe(probe), CheckJitEngine(),
                     CheckProtectionKeys(host), CheckLandlock(host), CheckUserNamespaces(host),
                     CheckSeccomp(host), CheckOpenFiles(host), CheckMappingCount(host),
                     CheckStackLimit(host), CheckAddressLayout(host), CheckDefaultRights()},
          .engine = DecideEngine(device, probe)};
}

}  // namespace dunebox::doctor
