#include "runtime/kvm/cpu_setup.h"

#include <algorithm>
#include <cstring>

#include "hostcalls/host_cpuid.h"
#include "libdune/x86/control.h"
#include "libdune/x86/descriptor.h"
#include "libdune/x86/guest_cpuid.h"
#include "runtime/kvm/layout.h"

namespace dunebox::kvm {

namespace x86 = dune::x86;

namespace {

constexpr bool IsExtendedStateLeaf(const kvm_cpuid_entry2& entry) { return entry.function == 0xd; }

const kvm_cpuid_entry2* FindLeaf(const CpuidTable& table, std::uint32_t function,
                                 std::uint32_t index) {
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(table.count, kMaxCpuidEntries); ++i) {
    const kvm_cpuid_entry2& entry = table.entries[i];
    if (entry.function == function && entry.index == index) return &entry;
  }
  return nullptr;
}

// Legacy region and header, then each component where leaf 0xD puts it.
std::size_t ExtendedSize(const CpuidTable& table, std::uint64_t xcr0) {
  std::size_t size = 512 + 64;
  for (std::uint32_t component = 2; component < 63; ++component) {
    if ((xcr0 & x86::Bit(component)) == 0) continue;
    if (const kvm_cpuid_entry2* leaf = FindLeaf(table, 0xd, component)) {
      size = std::max<std::size_t>(size, std::size_t{leaf->ebx} + leaf->eax);
    }
  }
  return size;
}

}  // namespace

CpuidTable OfferedCpuid(const CpuidTable& supported, Ring0 ring0) {
  CpuidTable offered = supported;
  if (ring0 == Ring0::kNative) return offered;
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(offered.count, kMaxCpuidEntries); ++i) {
    kvm_cpuid_entry2& entry = offered.entries[i];
    if (entry.function != 1 && entry.function != 7) continue;
    const hostcalls::HostCpuid host = hostcalls::FeaturesOfHost(entry.function, entry.index);
    entry.ecx |= host.ecx;
    entry.edx |= host.edx;
    if (entry.function == 7) entry.ebx |= host.ebx;  // leaf 1's EBX is no feature word
  }
  return offered;
}

CpuFeatures FeaturesOf(const CpuidTable& offered) {
  CpuFeatures features;
  const kvm_cpuid_entry2* basic = FindLeaf(offered, 1, 0);
  const bool xsave = basic != nullptr && (basic->ecx & x86::Bit(26)) != 0;
  if (const kvm_cpuid_entry2* state = FindLeaf(offered, 0xd, 0); xsave && state != nullptr) {
    const std::uint64_t components = (std::uint64_t{state->edx} << 32) | state->eax;
    features.xcr0 = components & x86::kExtendedFeatureMask;
  }
  features.xsave_size = ExtendedSize(offered, features.xcr0);
  if (const kvm_cpuid_entry2* extended = FindLeaf(offered, 7, 0)) {
    features.fsgsbase = (extended->ebx & x86::Bit(0)) != 0;
    features.smep = (extended->ebx & x86::Bit(7)) != 0;
    features.smap = (extended->ebx & x86::Bit(20)) != 0;
    features.umip = (extended->ecx & x86::Bit(2)) != 0;
  }
  return features;
}

CpuidTable GuestCpuid(const CpuidTable& offered, const CpuFeatures& features) {
  CpuidTable guest;
  guest.count = 0;
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(offered.count, kMaxCpuidEntries); ++i) {
    kvm_cpuid_entry2 entry = offered.entries[i];
    x86::CpuidResult kept{entry.eax, entry.ebx, entry.ecx, entry.edx};
    x86::HideFeatures(entry.function, entry.index, kept);
    entry.eax = kept.eax, entry.ebx = kept.ebx, entry.ecx = kept.ecx, entry.edx = kept.edx;
    if (entry.function == 0xa) entry.eax = entry.ebx = entry.ecx = entry.edx = 0;  // counters
    if (IsExtendedStateLeaf(entry)) {
      if (entry.index == 0) {
        entry.eax = static_cast<std::uint32_t>(features.xcr0);
        entry.edx = static_cast<std::uint32_t>(features.xcr0 >> 32);
        entry.ecx = static_cast<std::uint32_t>(features.xsave_size);
      } else if (entry.index > 1 && (features.xcr0 & x86::Bit(entry.index)) == 0) {
        continue;
      }
    }
    guest.entries[guest.count++] = entry;
  }
  return guest;
}

void SetSystemRegisters(kvm_sregs& registers, const CpuFeatures& features, Ring0 ring0,
                        GuestPhys page_table_root, GuestVirt block) {
  kvm_segment code{.base = 0,
                   .limit = 0xffff'ffff,
                   .selector = DUNE_SELECTOR_KERNEL_CODE,
                   .type = 0xb,
                   .present = 1,
                   .dpl = 0,
                   .db = 0,
                   .s = 1,
                   .l = 1,
                   .g = 1};
  kvm_segment data = code;
  data.selector = DUNE_SELECTOR_KERNEL_DATA;
  data.type = 0x3;
  data.db = 1;
  data.l = 0;
  // DS, ES, FS, GS hold null selectors in a 64-bit process; only the bases count.
  kvm_segment null_data = data;
  null_data.selector = 0;
  null_data.dpl = 3;
  registers.cs = code;
  registers.ss = data;
  registers.ds = registers.es = registers.fs = registers.gs = null_data;
  registers.tr = {.base = (block + layout::kBlockTss).value,
                  .limit = sizeof(x86::TaskState) - 1,
                  .selector = DUNE_SELECTOR_TSS,
                  .type = 0xb,
                  .present = 1};
  registers.ldt = {.type = 0x2, .present = 0, .unusable = 1};
  registers.gdt = {.base = (block + layout::kBlockGdt).value, .limit = 0x4f};
  registers.idt = {.base = layout::ArenaVirt(layout::kIdtOffset).value,
                   .limit = DUNE_VECTOR_COUNT * sizeof(x86::GateDescriptor) - 1};
  registers.cr3 = page_table_root.value;
  registers.cr0 = x86::cr0::kPaging | x86::cr0::kAlignmentMask | x86::cr0::kWriteProtect |
                  x86::cr0::kNumericError | x86::cr0::kExtensionType |
                  x86::cr0::kMonitorCoprocessor | x86::cr0::kProtection;
  registers.cr4 = x86::cr4::kPhysicalAddressExtension | x86::cr4::kFxsave |
                  x86::cr4::kSimdExceptions;
  if (features.xcr0 != 0) registers.cr4 |= x86::cr4::kXsave;
  if (features.fsgsbase) registers.cr4 |= x86::cr4::kFsgsbase;
  // The ring-0 image never touches user pages; where ring 0 is real, the CPU enforces it.
  if (ring0 == Ring0::kNative) {
    if (features.smep) registers.cr4 |= x86::cr4::kSmep;
    if (features.smap) registers.cr4 |= x86::cr4::kSmap;
    if (features.umip) registers.cr4 |= x86::cr4::kUserModeInstructionPrevention;
  }
  registers.efer = x86::efer::kNoExecuteEnable | x86::efer::kLongModeActive |
                   x86::efer::kLongModeEnable | x86::efer::kSyscallEnable;
}

MsrTable SystemMsrs(GuestVirt syscall_entry, GuestVirt state) {
  MsrTable msrs;
  // SYSRETQ loads SS = base + 8 and CS = base + 16. [amd/vol2 §6.1.1]
  constexpr std::uint64_t kUserBase = DUNE_SELECTOR_USER_DATA - 8;
  static_assert(kUserBase + 16 == DUNE_SELECTOR_USER_CODE);
  msrs.Add(x86::msr::kStar,
           (kUserBase << 48) | (std::uint64_t{DUNE_SELECTOR_KERNEL_CODE} << 32));
  msrs.Add(x86::msr::kLstar, syscall_entry.value);
  msrs.Add(x86::msr::kKernelGsBase, state.value);
  msrs.Add(x86::msr::kCstar, 0);
  msrs.Add(x86::msr::kSyscallMask, x86::rflags::kSyscallClear);
  return msrs;
}

void WriteVcpuBlock(std::byte* block, GuestVirt address) {
  std::array<std::uint64_t, 10> gdt{};
  gdt[DUNE_SELECTOR_KERNEL_CODE >> 3] = x86::SegmentDescriptor::Code64(0).word();
  gdt[DUNE_SELECTOR_KERNEL_DATA >> 3] = x86::SegmentDescriptor::Data(0).word();
  gdt[DUNE_SELECTOR_USER_DATA >> 3] = x86::SegmentDescriptor::Data(3).word();
  gdt[DUNE_SELECTOR_USER_CODE >> 3] = x86::SegmentDescriptor::Code64(3).word();
  const auto tss = x86::TaskStateDescriptor::Available((address + layout::kBlockTss).value,
                                                       sizeof(x86::TaskState) - 1);
  gdt[DUNE_SELECTOR_TSS >> 3] = tss.low;
  gdt[(DUNE_SELECTOR_TSS >> 3) + 1] = tss.high;
  std::memcpy(block + layout::kBlockGdt, gdt.data(), sizeof(gdt));

  x86::TaskState state;
  state.rsp[0] = (address + layout::kBlockTrapStackTop).value;
  state.ist[0] = (address + layout::kBlockIstStackTop).value;
  state.ist[1] = (address + layout::kBlockTrapStackTop).value;  // for programs in ring 0
  std::memcpy(block + layout::kBlockTss, &state, sizeof(state));
}

void WriteIdt(std::byte* page, GuestVirt vectors, ProgramRing ring) {
  const unsigned usual_stack = ring == ProgramRing::kRing0 ? 2 : 0;
  std::array<x86::GateDescriptor, DUNE_VECTOR_COUNT> idt;
  for (unsigned vector = 0; vector < idt.size(); ++vector) {
    const auto name = static_cast<x86::Vector>(vector);
    // Programs may execute INT3 and INTO; everything else by INT n is #GP.
    const unsigned privilege =
        name == x86::Vector::kBreakpoint || name == x86::Vector::kOverflow ? 3 : 0;
    // These can strike in ring 0 with the guest's stack pointer loaded.
    const bool own_stack = name == x86::Vector::kDebug || name == x86::Vector::kNonMaskable ||
                           name == x86::Vector::kDoubleFault ||
                           name == x86::Vector::kMachineCheck;
    idt[vector] = x86::GateDescriptor::Interrupt(
        (vectors + vector * DUNE_VECTOR_STRIDE).value, DUNE_SELECTOR_KERNEL_CODE,
        own_stack ? 1 : usual_stack, privilege);
  }
  std::memcpy(page, idt.data(), sizeof(idt));
}

namespace {

void Redirect(std::byte* page, x86::Vector vector, GuestVirt entry, unsigned stack) {
  const auto gate = x86::GateDescriptor::Interrupt(entry.value, DUNE_SELECTOR_KERNEL_CODE, stack,
                                                   /*privilege=*/0);
  std::memcpy(page + static_cast<std::size_t>(vector) * sizeof(gate), &gate, sizeof(gate));
}

}  // namespace

void RedirectPageFaults(std::byte* page, GuestVirt entry) {
  Redirect(page, x86::Vector::kPageFault, entry, /*stack=*/0);
}

void RedirectSteps(std::byte* page, GuestVirt entry) {
  Redirect(page, x86::Vector::kDebug, entry, /*stack=*/1);
}

}  // namespace dunebox::kvm
