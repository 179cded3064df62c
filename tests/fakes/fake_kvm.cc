#include "tests/fakes/fake_kvm.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace dunebox::fakes {
namespace {

constexpr std::uint32_t kFeaturesEcx = 0xfefa'3203 | (1U << 26);            // with XSAVE
constexpr std::uint32_t kExtendedEbx = (1U << 0) | (1U << 7) | (1U << 20);  // FSGSBASE, SMEP, SMAP

void Add(kvm::CpuidTable& table, kvm_cpuid_entry2 entry) { table.entries[table.count++] = entry; }

}  // namespace

FakeKvm::FakeKvm() : xsave(sizeof(kvm_xsave)) {
  cpuid.count = 0;
  Add(cpuid,
      {.function = 0, .eax = 0x16, .ebx = 0x756e'6547, .ecx = 0x6c65'746e, .edx = 0x4965'6e69});
  Add(cpuid, {.function = 1, .eax = 0x806f8, .ecx = kFeaturesEcx, .edx = 0x1f8b'fbff});
  Add(cpuid, {.function = 7, .index = 0, .flags = 1, .ebx = kExtendedEbx, .ecx = 1U << 2});
  Add(cpuid, {.function = 0xd, .index = 0, .flags = 1, .eax = 7, .ebx = 0x340, .ecx = 0x340});
  Add(cpuid, {.function = 0xd, .index = 1, .flags = 1, .eax = 0x1f});
  Add(cpuid, {.function = 0xd, .index = 2, .flags = 1, .eax = 0x100, .ebx = 0x240});
  Add(cpuid, {.function = 0x8000'0008, .eax = 46});
  capabilities[KVM_CAP_SYNC_REGS] = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
  capabilities[KVM_CAP_NR_MEMSLOTS] = 32'764;
  for (const unsigned long capability :
       {KVM_CAP_USER_MEMORY, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_XSAVE, KVM_CAP_XCRS,
        KVM_CAP_READONLY_MEM}) {
    capabilities[capability] = 1;
  }
}

FakeKvm::~FakeKvm() {
  for (const auto& [vcpu, area] : run_areas_) munmap(area, static_cast<std::size_t>(run_area_size));
}

std::byte* FakeKvm::Memory(GuestPhys address) const {
  for (const auto& [number, slot] : slots_) {
    const std::uint64_t offset = address.value - slot.guest_phys_addr;
    if (address.value >= slot.guest_phys_addr && offset < slot.memory_size) {
      return reinterpret_cast<std::byte*>(slot.userspace_addr + offset);
    }
  }
  return nullptr;
}

int FakeKvm::Count(const std::string& name) {
  ++calls_;
  names_.push_back(name);
  return calls_ >= fail_from_ && calls_ <= fail_to_ ? fail_error_ : 0;
}

int FakeKvm::Open(Kind kind) {
  descriptors_[next_descriptor_] = kind;
  return next_descriptor_++;
}

bool FakeKvm::Is(int fd, Kind kind) const {
  const auto found = descriptors_.find(fd);
  return found != descriptors_.end() && found->second == kind;
}

int FakeKvm::OpenDevice() {
  if (const int error = Count("open")) return -error;
  return Open(Kind::kDevice);
}

int FakeKvm::SetSlot(const kvm_userspace_memory_region& region) {
  if (((region.guest_phys_addr | region.memory_size | region.userspace_addr) & 4095) != 0) {
    return -EINVAL;
  }
  if (region.slot >= static_cast<std::uint32_t>(capabilities[KVM_CAP_NR_MEMSLOTS])) return -EINVAL;
  const auto old = slots_.find(region.slot);
  if (region.memory_size == 0) {
    if (old == slots_.end()) return -EINVAL;
    slots_.erase(old);
    return 0;
  }
  if (old != slots_.end()) return -EINVAL;  // nothing here moves or resizes a slot
  for (const auto& [number, slot] : slots_) {
    if (region.guest_phys_addr < slot.guest_phys_addr + slot.memory_size &&
        slot.guest_phys_addr < region.guest_phys_addr + region.memory_size) {
      return -EEXIST;
    }
  }
  slots_[region.slot] = region;
  return 0;
}

int FakeKvm::DeviceIoctl(unsigned long request, void* argument) {
  switch (request) {
    case KVM_GET_API_VERSION:
      return api_version;
    case KVM_CHECK_EXTENSION: {
      const auto found = capabilities.find(reinterpret_cast<unsigned long>(argument));
      return found == capabilities.end() ? 0 : found->second;
    }
    case KVM_GET_VCPU_MMAP_SIZE:
      return run_area_size;
    case KVM_GET_SUPPORTED_CPUID: {
      auto& table = *static_cast<kvm::CpuidTable*>(argument);
      if (table.count < cpuid.count) return -E2BIG;
      table = cpuid;
      return 0;
    }
    case KVM_CREATE_VM:
      vcpu_indices_.clear();
      return Open(Kind::kMachine);
    default:
      ++misuses_;
      return -ENOTTY;
  }
}

int FakeKvm::MachineIoctl(unsigned long request, void* argument) {
  switch (request) {
    case KVM_SET_TSS_ADDR:
      return 0;
    case KVM_SET_USER_MEMORY_REGION:
      return SetSlot(*static_cast<kvm_userspace_memory_region*>(argument));
    case KVM_CREATE_VCPU:
      if (!vcpu_indices_.insert(reinterpret_cast<std::uintptr_t>(argument)).second) return -EEXIST;
      return Open(Kind::kVcpu);
    default:
      ++misuses_;
      return -ENOTTY;
  }
}

int FakeKvm::VcpuIoctl(unsigned long request, void* argument) {
  switch (request) {
    case KVM_SET_CPUID2:
      guest_cpuid = *static_cast<kvm::CpuidTable*>(argument);
      return 0;
    case KVM_GET_SREGS:
      *static_cast<kvm_sregs*>(argument) = sregs_;
      return 0;
    case KVM_SET_SREGS:
      sregs_ = *static_cast<kvm_sregs*>(argument);
      return 0;
    case KVM_SET_MSRS: {
      const auto& table = *static_cast<kvm::MsrTable*>(argument);
      for (std::uint32_t i = 0; i < table.count; ++i) {
        msrs[table.entries[i].index] = table.entries[i].data;
      }
      return msrs_accepted >= 0 ? msrs_accepted : static_cast<int>(table.count);
    }
    case KVM_SET_XCRS:
      xcr0_ = static_cast<kvm_xcrs*>(argument)->xcrs[0].value;
      return 0;
    case KVM_SET_FPU:
      fpu_ = *static_cast<kvm_fpu*>(argument);
      return 0;
    case KVM_SET_DEVICE_ATTR:
    case KVM_SET_DEBUGREGS:
      return 0;
    case KVM_PRE_FAULT_MEMORY: {
      auto& wanted = *static_cast<kvm_pre_fault_memory*>(argument);
      if (capabilities[KVM_CAP_PRE_FAULT_MEMORY] == 0) return -ENOTTY;
      if (wanted.flags != 0 || wanted.size == 0 || ((wanted.gpa | wanted.size) & 4095) != 0) return -EINVAL;
      pre_faults.push_back(wanted);
      const std::uint64_t done = std::min<std::uint64_t>(wanted.size, pre_fault_most);
      wanted.gpa += done;
      wanted.size -= done;
      return done == 0 ? -EINTR : 0;
    }
    case KVM_GET_XSAVE:
      std::memcpy(argument, xsave.data(), sizeof(kvm_xsave));
      return 0;
    case KVM_SET_XSAVE:
      std::memcpy(xsave.data(), argument, sizeof(kvm_xsave));
      return 0;
    default:
      ++misuses_;
      return -ENOTTY;
  }
}

int FakeKvm::Ioctl(int fd, unsigned long request, void* argument) {
  if (const int error = Count("ioctl " + std::to_string(request & 0xff))) return -error;
  if (Is(fd, Kind::kDevice)) return DeviceIoctl(request, argument);
  if (Is(fd, Kind::kMachine)) return MachineIoctl(request, argument);
  if (Is(fd, Kind::kVcpu)) return VcpuIoctl(request, argument);
  ++misuses_;
  return -EBADF;
}

int FakeKvm::Run(int vcpu_fd) {
  if (const int error = Count("run")) return -error;
  const auto area = run_areas_.find(vcpu_fd);
  if (!Is(vcpu_fd, Kind::kVcpu) || area == run_areas_.end()) {
    ++misuses_;
    return -EBADF;
  }
  ++runs_;
  auto& run = *static_cast<kvm_run*>(area->second);
  if (run.immediate_exit != 0) return -EINTR;
  if (script_.empty()) return -EIO;
  const auto exit = std::move(script_.front());
  script_.pop_front();
  // A script sees and changes the vCPU's system registers in the run area, whoever shares them.
  if ((run.kvm_dirty_regs & KVM_SYNC_X86_SREGS) != 0) sregs_ = run.s.regs.sregs;
  run.s.regs.sregs = sregs_;
  const int result = exit(run);
  sregs_ = run.s.regs.sregs;
  if ((run.kvm_valid_regs & KVM_SYNC_X86_SREGS) == 0) {
    std::memset(&run.s.regs.sregs, 0xee, sizeof(run.s.regs.sregs));  // nobody may rely on them
  }
  return result;
}

void* FakeKvm::MapRunArea(int vcpu_fd, std::size_t size, int* error) {
  *error = Count("mmap");
  if (*error == 0 && (!Is(vcpu_fd, Kind::kVcpu) || run_areas_.contains(vcpu_fd))) {
    ++misuses_;
    *error = EBADF;
  }
  if (*error != 0) return nullptr;
  // As KVM's, also a forked child's.
  void* area = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) {
    *error = errno;
    return nullptr;
  }
  run_areas_[vcpu_fd] = area;
  return area;
}

void FakeKvm::UnmapRunArea(void* area, std::size_t size) {
  for (auto it = run_areas_.begin(); it != run_areas_.end(); ++it) {
    if (it->second != area) continue;
    munmap(area, size);
    run_areas_.erase(it);
    return;
  }
  ++misuses_;
}

void FakeKvm::Close(int fd) {
  if (descriptors_.erase(fd) == 0) ++misuses_;
}

}  // namespace dunebox::fakes
