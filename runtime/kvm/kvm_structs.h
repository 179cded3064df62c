// <linux/kvm.h>, usable from C++, under this folder's names.
#ifndef DUNEBOX_RUNTIME_KVM_KVM_STRUCTS_H_
#define DUNEBOX_RUNTIME_KVM_KVM_STRUCTS_H_

#include "libdune/kvm/kvm_structs.h"

namespace dunebox::kvm {

using dune::CpuidTable;
using dune::kMaxCpuidEntries;
using dune::kMaxMsrs;
using dune::MsrTable;

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_KVM_STRUCTS_H_
