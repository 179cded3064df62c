// What the /dev/kvm of this host really is, found out by running a tiny guest (about 1 ms).
//
// CPU flags do not tell: KVM may be hardware virtualization, nested, or an emulation where
// ring 0 is interpreted. The verdict decides how system calls are recognised and how large
// a memslot may be, and whether `--engine=auto` takes kvm at all.
//
//   absl::StatusOr<Probe> probe = RunProbe(api);
//   if (probe.ok() && probe->ring0 == Ring0::kNative) ...
#ifndef DUNEBOX_RUNTIME_KVM_PROBE_H_
#define DUNEBOX_RUNTIME_KVM_PROBE_H_

#include <string>

#include "absl/status/statusor.h"
#include "runtime/kvm/kvm_api.h"

namespace dunebox::kvm {

enum class Ring0 : unsigned char {
  kNative,    // guest ring 0 runs at the speed of ring 3
  kEmulated,  // guest ring 0 is interpreted: exit on every trap, stay there briefly
};
enum class SyscallEntry : unsigned char {
  kRing0,     // SYSCALL enters ring 0 at LSTAR, as on hardware
  kPageFault, // SYSCALL stays in ring 3 at LSTAR: it arrives as the #PF there
};
enum class Paging : unsigned char {
  kTwoDimensional,  // EPT or NPT: a changed guest page-table entry counts after a flush
  kShadow,          // a changed present entry counts only after a host-side invalidation
};

struct Probe {
  Ring0 ring0 = Ring0::kEmulated;
  SyscallEntry syscall_entry = SyscallEntry::kPageFault;
  bool sysret_works = false;
  bool ring3_out_exits = false;  // ring 3 can execute OUT and exit (should be #GP)
  Paging paging = Paging::kShadow;
  double ring0_slowdown = 0;     // ring-0 loop time divided by the same loop in ring 3

  // `hardware` when everything behaves as on Intel VT-x or AMD SVM.
  bool is_hardware() const {
    return ring0 == Ring0::kNative && syscall_entry == SyscallEntry::kRing0 && sysret_works;
  }
  // "hardware" or "emulated", and one sentence that says why.
  std::string verdict() const;
  std::string reason() const;
};

// Opens /dev/kvm through `api`, builds a throw-away VM with one vCPU, and runs the probe
// guest. Errors: /dev/kvm missing (kNotFound), forbidden (kPermissionDenied), an old KVM or a
// missing capability (kUnimplemented), anything else (kInternal).
absl::StatusOr<Probe> RunProbe(KvmApi& api);

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_PROBE_H_
