// What a vCPU starts with: CPUID, control registers, MSRs, descriptor tables. Pure functions from
// what KVM offers to what the guest gets; vcpu.cc does the ioctls.
#ifndef DUNEBOX_RUNTIME_KVM_CPU_SETUP_H_
#define DUNEBOX_RUNTIME_KVM_CPU_SETUP_H_

#include <cstddef>
#include <cstdint>

#include "hostcalls/memory/address.h"
#include "runtime/kvm/kvm_structs.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/program_ring.h"

namespace dunebox::kvm {

struct CpuFeatures {
  std::uint64_t xcr0 = 0;
  std::size_t xsave_size = 0;  // bytes of the standard-format area for xcr0
  bool fsgsbase = false;
  bool smep = false;
  bool smap = false;
  bool umip = false;
};

// What a guest can be offered: KVM's list, and where ring 0 is emulated (ring 3 then executes CPUID
// on the real processor, whatever KVM lists) with the processor's own feature bits added, so that
// the state KVM saves is the state programs use.
CpuidTable OfferedCpuid(const CpuidTable& supported, Ring0 ring0);

// What of the offered features Dunebox uses.
CpuFeatures FeaturesOf(const CpuidTable& offered);
// The guest's CPUID: what is offered minus what is not kept (virtualization, performance counters,
// protection keys, transactional memory, control-flow enforcement, AMX, user wait, ...).
CpuidTable GuestCpuid(const CpuidTable& offered, const CpuFeatures& features);

// Segment, control and table registers for ring 0 at a vCPU's block; RIP is set elsewhere.
void SetSystemRegisters(kvm_sregs& registers, const CpuFeatures& features, Ring0 ring0,
                        GuestPhys page_table_root, GuestVirt block);
// `state` is the Ring0State that SWAPGS finds.
MsrTable SystemMsrs(GuestVirt syscall_entry, GuestVirt state);

// Fills a vCPU's page: GDT, TSS. `block` is the host's view, `address` the guest's.
void WriteVcpuBlock(std::byte* block, GuestVirt address);
// Fills the IDT page, all vectors to the image's stubs. A program in ring 0 has a red zone below its
// stack pointer: there every vector has a stack of its own.
void WriteIdt(std::byte* page, GuestVirt vectors, ProgramRing ring);
// Page faults enter at `entry` instead of at their vector stub, on the usual stack.
void RedirectPageFaults(std::byte* page, GuestVirt entry);
// The same of #DB, on its own.
void RedirectSteps(std::byte* page, GuestVirt entry);

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_CPU_SETUP_H_
