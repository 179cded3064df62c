// Keeps the guest page tables a subset of what the VMA map allows.
//
// A present guest PTE never grants more than its VMA; tables fill lazily: one fault fills the
// VMA's part of its 2 MiB span, with one leaf where anonymous memory is all of it and KVM maps the
// guest's memory apart (two-dimensional paging). Thread-safe. Lock order: AddressSpace, then the Mmu's mutex.
//
//   switch (mmu.Resolve(address, error_code, Backing::kAssume)) { case Resolution::kMapped: ...
#ifndef DUNEBOX_RUNTIME_KVM_MMU_H_
#define DUNEBOX_RUNTIME_KVM_MMU_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "absl/status/status.h"
#include "runtime/kvm/fault_around.h"
#include "runtime/kvm/page_tables.h"
#include "runtime/kvm/probe.h"
#include "runtime/kvm/translation_flushes.h"
#include "runtime/kvm/vm.h"
#include "runtime/memory/address_space.h"

namespace dunebox::kvm {

enum class Resolution : std::uint8_t {
  kMapped,        // the access will work now: resume
  kWasMapped,     // so it would have before: another vCPU was faster, or its tables are not ours
  kNoMapping,     // no VMA there: SIGSEGV, SEGV_MAPERR
  kForbidden,     // the VMA does not allow it: SIGSEGV, SEGV_ACCERR
  kNothingBehind, // the VMA allows it but no memory can be had: SIGBUS
  kFailed,        // the VM ran out of slots or tables and could not be cleaned up
};

// Whether Resolve first makes sure that there is memory behind the page.
enum class BackingCheck : std::uint8_t { kAssume, kProbe };

class Mmu final : public memory::MappingObserver {
 public:
  Mmu(Vm& vm, memory::AddressSpace& space, Paging paging);
  absl::Status Initialize();

  // What `work` does with the tables while nobody else uses them: threads come, and map what is their vCPU's,
  // while others fault.
  decltype(auto) WithTables(auto&& work) {
    std::lock_guard lock(mutex_);
    return work(tables_);
  }
  // Where the processors find the root; never another one.
  GuestPhys root() const { return tables_.root(); }
  TranslationFlushes& flushes() { return flushes_; }
  const hostcalls::GuestMemory& memory() const { return space_.memory(); }

  // A #PF of the program's: `error_code` is the CPU's. With kMapped, `ahead` is what KVM may map with it.
  Resolution Resolve(std::uint64_t address, std::uint64_t error_code, BackingCheck check,
                     Ahead* ahead = nullptr);
  // KVM could not reach the memory behind some present PTE. Takes the PTEs away of all pages with
  // nothing behind them, so that the access faults with its exact address. Returns how many.
  std::size_t DropUnbacked();
  // Shows host pages read-only at `at` (vvar). Once per VM.
  absl::Status Alias(const GuestRange& at, const void* host);
  // Shows ring 0 the same pages, and above them a copy of this code, whose entry is then clock_entry(). What
  // there is no room for is not shown.
  absl::Status ShowClock(std::span<const std::byte> code, std::uint64_t entry);
  GuestVirt clock_entry() const { return clock_entry_; }

  // 2 MiB leaves at the moment.
  std::size_t LargeLeaves();
  // How often slots or tables have been used up.
  std::uint64_t times_started_over() const { return times_started_over_.load(); }

  // Around fork.
  void Lock() { mutex_.lock(); }
  void Unlock() { mutex_.unlock(); }

  void Forget(const GuestRange& range) override;
  void ForgetMappings(const GuestRange& range) override { Forget(range); }
  bool NeedsHostInvalidation() const override { return true; }
  // Only where ring 0 answers page faults and KVM does not watch the guest's tables.
  void OfferPool() { offers_pool_ = true; }
  abi::MemoryPool* Pool() override;
  absl::Status OpenPool(const memory::PoolRanges& ranges, std::uint64_t opening) override;

 private:
  Resolution Fill(const memory::Vma& vma, GuestVirt address, std::uint64_t error_code, Ahead* ahead);
  bool FillsAround(const memory::Vma& vma, std::uint64_t error_code) const;
  absl::Status FillOnce(const GuestRange& range, dune::x86::PageTableEntry rights, bool may_be_large);
  // What the tables have for an access to what the map has there, or does not. Preconditions: the address space
  // is locked; it is not the open pool's.
  Resolution Settle(const memory::Vma* vma, GuestVirt address, std::uint64_t error_code, bool backed,
                    Ahead* ahead);
  // Everything starts over with empty tables and no granules; meanwhile all other vCPUs wait in
  // Resolve. Preconditions: the lock is held.
  absl::Status StartOver();
  abi::MemoryPool& pool() const;
  // Ring 0 sees the leaf tables of the range, as its tables from `first` on. Preconditions: the lock is held.
  absl::Status ShowTables(const GuestRange& range, std::uint64_t first, bool& is_shown);

  Vm& vm_;
  memory::AddressSpace& space_;
  std::mutex mutex_;
  PageTables tables_;
  TranslationFlushes flushes_;
  FaultAround around_;
  const Paging paging_;
  GuestRange alias_;
  GuestVirt clock_entry_;  // 0: none
  bool offers_pool_ = false;
  bool pool_is_shown_ = false;  // ring 0 sees its leaf tables
  bool heap_is_shown_ = false;  // and those of the heap's range
  std::atomic<std::uint64_t> times_started_over_ = 0;
};

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_MMU_H_
