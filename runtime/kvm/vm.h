// One VM: its descriptor, its memslots, and the arena of supervisor memory.
//
// Owns the arena's host mapping; refuses to give the guest any host memory but the arena, the
// window's granules and explicitly aliased read-only pages. [DESIGN D5]
// Slot changes are serialised by the caller (Mmu's lock).
//
//   auto vm = Vm::Create(api, /*granule_shift=*/26);
//   auto phys = (*vm)->GranuleFor(address);   // makes the memslot when first needed
#ifndef DUNEBOX_RUNTIME_KVM_VM_H_
#define DUNEBOX_RUNTIME_KVM_VM_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/memory/address.h"
#include "runtime/kvm/descriptor.h"
#include "runtime/kvm/kvm_api.h"
#include "runtime/kvm/kvm_structs.h"

namespace dunebox::kvm {

// A Status for a failed KVM call: what was tried and the kernel's reason.
absl::Status KvmError(std::string_view what, int negative_errno);

class Vm {
 public:
  // Opens the device, checks the API version and capabilities, creates the VM and the arena.
  static absl::StatusOr<std::unique_ptr<Vm>> Create(KvmApi& api);
  ~Vm();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  KvmApi& api() const { return api_; }
  int fd() const { return vm_.get(); }
  std::size_t run_area_size() const { return run_area_size_; }
  // What KVM offers to guests here, unfiltered.
  const CpuidTable& supported_cpuid() const { return *supported_cpuid_; }

  // Whether KVM can be asked to map guest memory before it is touched (Linux 6.10).
  bool can_pre_fault() const { return can_pre_fault_; }

  // The host's view of arena memory.
  std::byte* arena(std::uint64_t offset) const { return arena_ + offset; }
  // Makes sure that arena memory up to `end` has memslots.
  absl::Status GrowArena(std::uint64_t end);

  void set_granule_shift(unsigned shift) { granule_shift_ = shift; }
  // Host address of the guest's address 0. A multiple of the granules' size; before the first one is made.
  void set_window_base(std::uint64_t base) { window_base_ = base; }
  // Fewer than KVM offers, so that a test need not use up all of them.
  void LimitSlots(std::uint32_t most) { most_slots_ = std::min(most_slots_, most); }
  // Guest-physical address of a window address, with a memslot behind it. ResourceExhausted when
  // slots or guest-physical space are used up: the caller drops all granules and starts over.
  absl::StatusOr<GuestPhys> PhysicalFor(GuestVirt address);
  // Removes every granule's memslot. On shadow paging this also drops all shadow entries.
  absl::Status DropGranules();
  // Shows `length` bytes of host memory read-only at layout::kAliasPhys; once.
  absl::Status AliasHostPages(const void* host, std::uint64_t length);

 private:
  explicit Vm(KvmApi& api) : api_(api) {}
  absl::Status Initialize();
  absl::Status CheckCapabilities();
  absl::Status SetSlot(std::uint32_t slot, GuestPhys phys, std::uint64_t size, const void* host,
                       std::uint32_t flags);

  KvmApi& api_;
  KvmFd device_;
  KvmFd vm_;
  std::size_t run_area_size_ = 0;
  std::unique_ptr<CpuidTable> supported_cpuid_;
  std::byte* arena_ = nullptr;
  std::uint64_t arena_slotted_ = 0;  // bytes of the arena that have memslots
  unsigned granule_shift_ = 0;
  std::uint64_t window_base_ = 0;
  std::uint32_t most_slots_ = 0;
  bool can_pre_fault_ = false;
  std::uint64_t physical_limit_ = 0;
  absl::flat_hash_map<std::uint64_t, std::uint32_t> granules_;  // granule number -> index
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_VM_H_
