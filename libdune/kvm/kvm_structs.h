// <linux/kvm.h>, usable from C++: Debian 12's flexible-array macro puts an empty struct (one byte
// in C++) before the array, which changes the sizes that the ioctl numbers encode.
#ifndef DUNEBOX_LIBDUNE_KVM_KVM_STRUCTS_H_
#define DUNEBOX_LIBDUNE_KVM_KVM_STRUCTS_H_

#include <linux/stddef.h>
// The kernel header's own name, which is why it is a reserved one.
// NOLINTBEGIN(bugprone-reserved-identifier)
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[]
// NOLINTEND(bugprone-reserved-identifier)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <linux/kvm.h>
#pragma GCC diagnostic pop

#include <array>
#include <cstddef>

static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8);

// Of Linux 6.10; Debian 12's header is older. [linux Documentation/virt/kvm/api.rst]
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
struct kvm_pre_fault_memory {  // NOLINT(readability-identifier-naming)
  __u64 gpa;
  __u64 size;
  __u64 flags;
  __u64 padding[5];
};
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif
static_assert(sizeof(kvm_pre_fault_memory) == 64);

namespace dune {

// The variable-length structs with room for what we use.
inline constexpr std::size_t kMaxCpuidEntries = 256;
struct CpuidTable {
  __u32 count = kMaxCpuidEntries;  // kvm_cpuid2.nent
  __u32 padding = 0;
  std::array<kvm_cpuid_entry2, kMaxCpuidEntries> entries{};
};
static_assert(offsetof(CpuidTable, entries) == sizeof(kvm_cpuid2));

inline constexpr std::size_t kMaxMsrs = 8;
struct MsrTable {
  __u32 count = 0;  // kvm_msrs.nmsrs
  __u32 padding = 0;
  std::array<kvm_msr_entry, kMaxMsrs> entries{};
  void Add(__u32 index, __u64 value) { entries[count++] = {.index = index, .data = value}; }
};
static_assert(offsetof(MsrTable, entries) == sizeof(kvm_msrs));

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_KVM_KVM_STRUCTS_H_
