#include "runtime/kvm/vm.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "hostcalls/errors/message.h"
#include "runtime/kvm/layout.h"

namespace dunebox::kvm {
namespace {

// What must be there, and how we call it when it is not.
struct RequiredCapability {
  unsigned long number;
  int at_least;
  const char* name;
};
constexpr RequiredCapability kRequired[] = {
    {KVM_CAP_USER_MEMORY, 1, "user memory regions"},
    {KVM_CAP_EXT_CPUID, 1, "extended CPUID"},
    {KVM_CAP_IMMEDIATE_EXIT, 1, "immediate exit"},
    {KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS, "synchronised registers"},
    {KVM_CAP_XSAVE, 1, "XSAVE state"},
    {KVM_CAP_XCRS, 1, "extended control registers"},
    {KVM_CAP_READONLY_MEM, 1, "read-only memory slots"},
};
constexpr int kApiVersion = 12;

}  // namespace

absl::Status KvmError(std::string_view what, int negative_errno) {
  const int error = -negative_errno;
  const std::string text =
      absl::StrCat(absl::string_view(what.data(), what.size()), ": ", strerror(error));
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return absl::NotFoundError(text);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(text);
    case EINVAL:
      return absl::InvalidArgumentError(text);
    case EEXIST:
      return absl::AlreadyExistsError(text);
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::InternalError(text);
  }
}

absl::StatusOr<std::unique_ptr<Vm>> Vm::Create(KvmApi& api) {
  std::unique_ptr<Vm> vm(new Vm(api));
  if (absl::Status status = vm->Initialize(); !status.ok()) return status;
  return vm;
}

Vm::~Vm() {
  if (arena_ != nullptr) munmap(arena_, layout::kArenaBytes);
}

absl::Status Vm::CheckCapabilities() {
  const int version = api_.Ioctl(device_.get(), KVM_GET_API_VERSION, std::uintptr_t{0});
  if (version < 0) return KvmError("KVM_GET_API_VERSION", version);
  if (version != kApiVersion) {
    return errors::Named(errors::Id::kKvmLacks, absl::UnimplementedError(
        absl::StrCat("/dev/kvm speaks API version ", version, ", not ", kApiVersion)));
  }
  for (const RequiredCapability& capability : kRequired) {
    const int value = api_.Ioctl(device_.get(), KVM_CHECK_EXTENSION, capability.number);
    if (value < 0) return KvmError("KVM_CHECK_EXTENSION", value);
    if ((value & capability.at_least) != capability.at_least) {
      return errors::Named(errors::Id::kKvmLacks, absl::UnimplementedError(absl::StrCat("this KVM has no ", capability.name)));
    }
  }
  const int slots = api_.Ioctl(device_.get(), KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
  if (slots < 0) return KvmError("KVM_CHECK_EXTENSION", slots);
  most_slots_ = slots == 0 ? 32 : static_cast<std::uint32_t>(slots);
  const int pre_fault = api_.Ioctl(device_.get(), KVM_CHECK_EXTENSION, KVM_CAP_PRE_FAULT_MEMORY);
  if (pre_fault < 0) return KvmError("KVM_CHECK_EXTENSION", pre_fault);
  can_pre_fault_ = pre_fault != 0;
  return absl::OkStatus();
}

absl::Status Vm::Initialize() {
  const int device = api_.OpenDevice();
  if (device < 0) return KvmError("cannot open /dev/kvm", device);
  device_ = KvmFd(&api_, device);
  if (absl::Status status = CheckCapabilities(); !status.ok()) return status;

  const int run_size = api_.Ioctl(device, KVM_GET_VCPU_MMAP_SIZE, std::uintptr_t{0});
  if (run_size < 0) return KvmError("KVM_GET_VCPU_MMAP_SIZE", run_size);
  run_area_size_ = static_cast<std::size_t>(run_size);
  if (run_area_size_ < sizeof(kvm_run)) {
    return errors::Named(errors::Id::kKvmLacks, absl::UnimplementedError("this KVM's run area is too small"));
  }

  supported_cpuid_ = std::make_unique<CpuidTable>();
  const int cpuid = api_.Ioctl(device, KVM_GET_SUPPORTED_CPUID, supported_cpuid_.get());
  if (cpuid < 0) return KvmError("KVM_GET_SUPPORTED_CPUID", cpuid);

  const int vm = api_.Ioctl(device, KVM_CREATE_VM, std::uintptr_t{0});
  if (vm < 0) return KvmError("KVM_CREATE_VM", vm);
  vm_ = KvmFd(&api_, vm);
  const int tss = api_.Ioctl(vm, KVM_SET_TSS_ADDR, layout::kTssAddress);
  if (tss < 0) return KvmError("KVM_SET_TSS_ADDR", tss);

  unsigned physical_bits = 36;
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(supported_cpuid_->count, kMaxCpuidEntries);
       ++i) {
    if (supported_cpuid_->entries[i].function == 0x8000'0008) {
      physical_bits = supported_cpuid_->entries[i].eax & 0xff;
    }
  }
  physical_limit_ = std::uint64_t{1} << std::clamp(physical_bits, 36U, 52U);

  void* arena = mmap(nullptr, layout::kArenaBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) return KvmError("cannot reserve the supervisor's memory", -errno);
  arena_ = static_cast<std::byte*>(arena);
  // Page tables are touched one at a time; huge pages would only waste memory and time.
  madvise(arena_, layout::kArenaBytes, MADV_NOHUGEPAGE);
  return GrowArena(layout::kTablesOffset);
}

absl::Status Vm::SetSlot(std::uint32_t slot, GuestPhys phys, std::uint64_t size, const void* host,
                         std::uint32_t flags) {
  kvm_userspace_memory_region region{.slot = slot,
                                     .flags = flags,
                                     .guest_phys_addr = phys.value,
                                     .memory_size = size,
                                     .userspace_addr = reinterpret_cast<std::uint64_t>(host)};
  const int result = api_.Ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region);
  return result < 0 ? KvmError("KVM_SET_USER_MEMORY_REGION", result) : absl::OkStatus();
}

absl::Status Vm::GrowArena(std::uint64_t end) {
  if (end > layout::kArenaBytes) return absl::ResourceExhaustedError("page-table memory is used up");
  while (arena_slotted_ < end) {
    const auto slot = layout::kArenaSlot +
                      static_cast<std::uint32_t>(arena_slotted_ / layout::kArenaChunk);
    absl::Status status = SetSlot(slot, GuestPhys{arena_slotted_}, layout::kArenaChunk,
                                  arena_ + arena_slotted_, 0);
    if (!status.ok()) return status;
    arena_slotted_ += layout::kArenaChunk;
  }
  return absl::OkStatus();
}

absl::StatusOr<GuestPhys> Vm::PhysicalFor(GuestVirt address) {
  const std::uint64_t granule_size = std::uint64_t{1} << granule_shift_;
  const std::uint64_t granule = address.value >> granule_shift_;
  auto [entry, fresh] =
      granules_.try_emplace(granule, static_cast<std::uint32_t>(granules_.size()));
  const GuestPhys base = layout::kWindowPhys + (std::uint64_t{entry->second} << granule_shift_);
  if (fresh) {
    absl::Status status;
    if (layout::kWindowSlot + entry->second >= most_slots_ ||
        base.value + granule_size > physical_limit_) {
      status = absl::ResourceExhaustedError("memslots or guest-physical addresses are used up");
    } else {
      const auto* host = reinterpret_cast<const void*>(window_base_ + (granule << granule_shift_));
      status = SetSlot(layout::kWindowSlot + entry->second, base, granule_size, host, 0);
    }
    if (!status.ok()) {
      granules_.erase(entry);
      return status;
    }
  }
  return base + (address.value & (granule_size - 1));
}

absl::Status Vm::DropGranules() {
  while (!granules_.empty()) {
    const auto entry = granules_.begin();
    const std::uint32_t index = entry->second;
    const GuestPhys base = layout::kWindowPhys + (std::uint64_t{index} << granule_shift_);
    absl::Status status = SetSlot(layout::kWindowSlot + index, base, 0, nullptr, 0);
    if (!status.ok()) return status;
    granules_.erase(entry);
  }
  return absl::OkStatus();
}

absl::Status Vm::AliasHostPages(const void* host, std::uint64_t length) {
  return SetSlot(layout::kAliasSlot, layout::kAliasPhys, length, host, KVM_MEM_READONLY);
}

}  // namespace dunebox::kvm
