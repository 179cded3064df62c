// The memory of a compartment in ring 3: a clone of a template's page table, so that to begin with it has the template's
// pages and copies those that it writes to. What is mapped besides is a map only, and gets zeroed pages of libdune's frame
// pool when it is used. Of this process's addresses it takes none.
//
//   PagedSpace space(origin, policy.memory_limit);
//   absl::Status begun = space.Begin();
//   dune::RunUser(context, space.table());
//   if (space.Fill(fault.address, access)) ...   // again
//
// Thread-safe, for threads that are in ring 0.
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_PAGED_SPACE_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_PAGED_SPACE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dune/page_table.h"
#include "dunebox/grants.h"
#include "hostcalls/memory/guest_memory.h"
#include "runtime/memory/layout.h"
#include "runtime/memory/memory_calls.h"
#include "runtime/memory/memory_image.h"
#include "runtime/memory/range_set.h"
#include "sandbox/plugin/warden.h"

namespace dunebox::compartment {

// Of what compartments' memory is a clone.
struct PagedOrigin {
  std::shared_ptr<const memory::MemoryImage> image;
  memory::Layout layout;
  dune::PageTable table;

  // The image's pages, each copied by whoever writes to it.
  static absl::StatusOr<PagedOrigin> Of(std::shared_ptr<const memory::MemoryImage> image,
                                        const memory::Layout& layout);
};

class PagedSpace final : public memory::MemoryCalls, public hostcalls::PagedMemory {
 public:
  using Access = plugin::MemoryFault::Access;

  // `origin` outlives it. `memory_limit`: as Policy's.
  PagedSpace(const PagedOrigin& origin, std::uint64_t memory_limit);
  PagedSpace(const PagedSpace&) = delete;
  PagedSpace& operator=(const PagedSpace&) = delete;

  // As the origin is, with the regions that there are and the host's memory, zeroed. Nobody runs in it, nor may after an error until
  // it has begun: then there are parts of it, or no table at all.
  absl::Status Begin();
  // After Begin.
  dune::PageTable& table() { return *table_; }

  // True: the page is there now, and may be used so. Status: there is no memory for it.
  absl::StatusOr<bool> Fill(std::uint64_t address, Access access);
  absl::Status Put(const Region& region, std::optional<RegionAccess> access);

  // Memory of the host's for both sides, at `host_offset` + its guest address in this process.
  absl::StatusOr<GuestRange> ExtendArena(std::uint64_t bytes);
  std::uint64_t arena_host_offset() const { return arena_host_offset_; }
  // Lives as long as somebody has it.
  std::shared_ptr<const void> arena_memory() const { return arena_memory_; }
  // Where it is to be had. kResourceExhausted: nowhere.
  absl::Status ReserveArena();

  // ---- memory::MemoryCalls: memory of its own, and nothing else. Files are not mapped, mappings not moved.
  hostcalls::SyscallResult Map(const memory::MapRequest& request) override;
  hostcalls::SyscallResult Unmap(std::uint64_t address, std::uint64_t length) override;
  hostcalls::SyscallResult Protect(std::uint64_t address, std::uint64_t length, int prot) override;
  hostcalls::SyscallResult Remap(const memory::RemapRequest& request) override;
  hostcalls::SyscallResult Advise(std::uint64_t address, std::uint64_t length, int advice) override;
  hostcalls::SyscallResult Break(std::uint64_t address) override;
  void LookAtMap(absl::FunctionRef<void(const memory::VmaMap& map)> look) const override;

  // ---- hostcalls::PagedMemory
  bool With(std::uint64_t address, std::size_t size, Use use,
            absl::FunctionRef<void(std::byte* bytes)> visit) const override;

 private:
  // What differs from the image, from the first change on.
  struct Changed {
    memory::VmaMap map;
    memory::RangeSet data;  // as the memory limit counts it
    GuestVirt heap_end;
  };

  const memory::VmaMap& map() const;
  Changed& Change();
  bool HasRoomLocked(const memory::Vma& vma);
  void EnterLocked(memory::Vma vma);
  absl::StatusOr<bool> FillLocked(std::uint64_t address, Access access) const;
  hostcalls::SyscallResult MapLocked(const GuestRange& range, memory::Protection protection,
                                     std::shared_ptr<const memory::Backing> backing);
  hostcalls::SyscallResult UnmapLocked(const GuestRange& range);
  absl::Status ProtectPages(const GuestRange& range, memory::Protection protection);
  absl::Status PutLocked(const Region& region, RegionAccess access);
  absl::Status PutArenaLocked();

  const PagedOrigin& origin_;
  const std::uint64_t memory_limit_;

  mutable std::recursive_mutex mutex_;  // guards what follows; a visit may look at memory again
  std::shared_ptr<const void> arena_memory_;  // in the table as long as that is there
  mutable std::optional<dune::PageTable> table_;  // empty: there was no frame for one
  std::optional<Changed> changed_;
  std::map<const Region*, RegionAccess> regions_;
  // The host's: a place in the guest, and as much of this process's addresses.
  GuestRange arena_;
  std::uint64_t arena_used_ = 0, arena_host_offset_ = 0;
};

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_PAGED_SPACE_H_
