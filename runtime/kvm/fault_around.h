// Pages of files that are mapped with one that the program touches.
//
// With two-dimensional paging KVM maps the host's page behind each of the guest's when that is first used: an
// exit of its own for every page, whatever the guest's tables say. Since Linux 6.10 it can be asked to map several
// at once. So a page fault in the mapping of a file fills in a window of it, and KVM maps of that what the host has in
// memory. Who goes on where a window ended gets one twice as large, up to a whole 2 MiB span; who comes back to a
// span from elsewhere gets the rest of its table, and KVM's exits for single pages.
//
// Nothing is read from the disk for pages that nobody has asked for (but of files that the kernel tells nobody
// about, mincore(2), as its own read-ahead would), and rights stay those of the mapping.
//
//   FaultAround around;
//   const FaultAround::Window window = around.Choose(part, page, TableState::kNew);
//   ... fill in window.filled ...
//   MapResident(api, vcpu_fd, host, {window.mapped, frame});
#ifndef DUNEBOX_RUNTIME_KVM_FAULT_AROUND_H_
#define DUNEBOX_RUNTIME_KVM_FAULT_AROUND_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "hostcalls/memory/address.h"
#include "runtime/kvm/kvm_api.h"

namespace dunebox::kvm {

// Whether any of the mapping's part has been filled in before.
enum class TableState : std::uint8_t { kNew, kInUse };

// Not thread-safe: Mmu's lock.
class FaultAround {
 public:
  static constexpr std::uint64_t kLeastPages = 16;
  static constexpr std::uint64_t kMostPages = 512;

  struct Window {
    GuestRange filled;  // in the guest's tables
    GuestRange mapped;  // by KVM, a part of it
  };
  // For a fault at `page`. `part` is what its mapping has of one 2 MiB span.
  Window Choose(const GuestRange& part, GuestVirt page, TableState table);

 private:
  struct Stream {
    GuestVirt end;
    std::uint64_t pages = 0;
  };
  // So many mappings can be gone through side by side.
  std::array<Stream, 4> streams_;
  std::size_t next_ = 0;
};

// What KVM may map at once: guest pages that lie one behind the other in guest-physical memory, too. Empty: nothing.
struct Ahead {
  GuestRange range;
  GuestPhys first;
};

// Maps what the host has of it in memory, `host` being where the range is here. Returns how many pages KVM was asked
// for and has mapped. What it does not map is mapped when it is touched. Preconditions: at most kMostPages.
std::uint64_t MapResident(KvmApi& api, int vcpu_fd, void* host, const Ahead& ahead);

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_FAULT_AROUND_H_
