// The guest's address space: the VMA map, the host mappings behind it, and the engine's
// translations of it, changed in the one order that is safe for all of them:
// engine first (guest PTEs, translated code), then the host mapping, then the map.
//
// Places fresh mappings itself (own randomisation, user half only), keeps the heap, refuses
// anything outside its window and any change to sealed ranges (vDSO).
// Thread-safe: changes take the lock exclusively, fault handling shares it. No guest memory is
// touched while it is held.
//
//   AddressSpace space(GuestMemory(Window::WholeProgram()), Layout::Random());
//   SyscallResult at = space.Map({.length = 4096, .prot = PROT_READ, .flags = MAP_PRIVATE|...});
#ifndef DUNEBOX_RUNTIME_MEMORY_ADDRESS_SPACE_H_
#define DUNEBOX_RUNTIME_MEMORY_ADDRESS_SPACE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "hostcalls/abi/memory_pool.h"
#include "hostcalls/memory/guest_memory.h"
#include "hostcalls/result.h"
#include "hostcalls/services/limit_notes.h"
#include "hostcalls/services/memory_limits.h"
#include "runtime/memory/host_mapper.h"
#include "runtime/memory/layout.h"
#include "runtime/memory/memory_calls.h"
#include "runtime/memory/memory_image.h"
#include "runtime/memory/range_set.h"
#include "runtime/memory/vma_map.h"

namespace dunebox::memory {

// Where the pool is while it is open: each as long as MemoryPool says, from where a leaf table begins, in one GiB.
struct PoolRanges {
  GuestRange mappings;
  GuestRange heap;        // empty: brk is the host's
  GuestVirt heap_lowest, heap_end;
};

// An engine that keeps translations of guest memory. Called with the address space locked
// exclusively, so it must not call back.
class MappingObserver {
 public:
  virtual ~MappingObserver() = default;
  // Everything the engine knows about the range stops being true now: forget it. The host mapping
  // changes right after this returns.
  virtual void Forget(const GuestRange& range) = 0;
  // The range is mapped as an image has it now. Who brings the image back sees to what was made of its code.
  virtual void ForgetMappings(const GuestRange& range) { (void)range; }
  // Removing a right that only guest PTEs carry (execute) needs a host-side invalidation too.
  virtual bool NeedsHostInvalidation() const = 0;
  // What an engine shares with its guest side of the memory that this hands out by itself; null where it
  // does not. Its states are set before OpenPool and believed only as far as the pool goes.
  virtual abi::MemoryPool* Pool() { return nullptr; }
  // From now on, until somebody sets `pages` to 0, the guest side hands out these ranges.
  // `opening` tells it from earlier times.
  virtual absl::Status OpenPool(const PoolRanges& ranges, std::uint64_t opening) {
    (void)ranges, (void)opening;
    return absl::UnimplementedError("no memory pool");
  }
};

// A page of the open pool.
struct PoolPage {
  bool used;
  Protection protection;
};

class AddressSpace final : public MemoryCalls {
 public:
  AddressSpace(const hostcalls::GuestMemory& memory, const Layout& layout);
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  // At most one engine; null detaches. Not thread-safe: before the first guest instruction.
  void SetObserver(MappingObserver* observer) { observer_ = observer; }

  // From now on guest memory has this protection key; what is there already gets it, too.
  absl::Status UseKey(int key);

  const hostcalls::GuestMemory& memory() const { return memory_; }
  const Layout& layout() const { return layout_; }

  // From now on the calls below give out no more than `bytes` of memory that the program alone can
  // fill: writable and private or anonymous, the stack excepted; ENOMEM, as with RLIMIT_DATA. Unlike
  // there it counts until it is unmapped, whatever its rights are: filled memory stays filled. And
  // what it can touch at all is so much that its page tables take `bytes` at most. What is there
  // already counts. 0: no limit. `notes` is told what is refused. Before the first guest instruction.
  void LimitData(std::uint64_t bytes, hostcalls::LimitNotes* notes = nullptr);

  // From now on the calls give out no more than these limits allow whenever one is made, as the kernel keeps RLIMIT_AS and
  // RLIMIT_DATA; what is there already counts, the stack does not. They outlive this. Of a vforked child, whose limits are
  // its own, those of the parent count, whose memory it is. Before the first guest instruction.
  void KeepLimits(const hostcalls::MemoryLimits& limits) { limits_ = &limits; }

  // The memory system calls, with Linux's results.
  hostcalls::SyscallResult Map(const MapRequest& request) override;
  hostcalls::SyscallResult Unmap(std::uint64_t address, std::uint64_t length) override;
  hostcalls::SyscallResult Protect(std::uint64_t address, std::uint64_t length, int prot) override;
  hostcalls::SyscallResult Remap(const RemapRequest& request) override;
  hostcalls::SyscallResult Advise(std::uint64_t address, std::uint64_t length, int advice) override;
  hostcalls::SyscallResult Break(std::uint64_t address) override;
  hostcalls::SyscallResult LockAll(int flags);
  hostcalls::SyscallResult UnlockAll();
  hostcalls::SyscallResult AttachShared(int id, std::uint64_t address, int flags);
  hostcalls::SyscallResult DetachShared(std::uint64_t address);

  // Writes there as a debugger does, whatever the guest may write: into its own copy of a file's page,
  // never into a file. False where there is no memory, or only shared memory that the guest may not write.
  // Nobody else changes the map or the range meanwhile.
  bool Poke(std::uint64_t address, std::span<const std::byte> bytes);

  // ---- the memory pool (memory_pool.cc) ----
  // While it is open the guest's ring 0 maps and unmaps memory in a part of the address space, and the map
  // says nothing of that part. Who looks at guest memory there, or calls anything but the functions named
  // here, does so between BeginUse and EndUse: then it is closed.

  // Decides where it will be, so that memory that is mapped from now on can be in it.
  void PlacePool();
  // Opens it where there is one and nobody needs it closed. False: it cannot be, for now or ever.
  // `heap`: may brk be ring 0's, too?
  enum class PoolsHeap : std::uint8_t { kNo, kYes };
  bool OpenPool(PoolsHeap heap = PoolsHeap::kNo);
  // Closes it until the same thread calls EndUse; how much has been answered, as ClosePool.
  std::uint64_t BeginUse();
  void EndUse();
  // Makes map and host mappings what ring 0 has made of the pool. Returns how much has been answered there
  // since it was opened; nothing happens, and 0, when it is closed.
  std::uint64_t ClosePool();
  bool HasOpenPool() const { return pool_is_open_.load(); }
  // How often it has been opened; ring 0 may tell by it whether something is older than that.
  std::uint64_t pool_opening() const { return pool_opening_.load(); }
  // Where memory that is mapped lies in the pool whenever it is open; nothing before that is known.
  std::optional<GuestRange> PoolsPlace() const {
    if (!pool_is_placed_.load(std::memory_order_acquire)) return std::nullopt;
    return pool_range_;
  }
  // Whether the pool can have anything at the address when it is open.
  bool IsPoolsPlace(GuestVirt address) const {
    std::shared_lock lock(mutex_);
    return pool_range_.Contains(address) || heap_window_.Contains(address);
  }
  // Where ring 0 has the heap at the moment; empty: nowhere.
  GuestRange OpenHeap() const {
    std::shared_lock lock(mutex_);
    return HasOpenPool() ? lent_heap_ : GuestRange{};
  }
  // The page of the open pool at `address`; nothing if it is not the pool's. Within WithVma it stays open or
  // closed.
  std::optional<PoolPage> FindInOpenPool(GuestVirt address) const;
  // Whether the pool is open, and what the range has of it is memory that the program may read and write and
  // that the host has just so, or the host's own.
  bool PoolHolds(const GuestRange& range) const;
  // The kernel is about to know more of the range than the map does (locked, not for fork, ...): if it is
  // the pool's, that is never opened again.
  void KeepFromPool(const GuestRange& range);

  // ---- images (image_view.cc)
  // No guest code runs during these, nobody else uses the guest's memory, and there is no pool.

  // The memory as it is now. From here on this is a copy-on-write view of it. kInternal: it is neither
  // the one nor the other, and not to be used any more.
  // In a file of `fd`, as MemoryImage::Make has it.
  absl::StatusOr<std::shared_ptr<const MemoryImage>> TakeImage(
      std::optional<int> fd = std::nullopt);
  // Of a space that has nothing yet: begins as a view of `image`.
  absl::Status AdoptImage(std::shared_ptr<const MemoryImage> image);
  // Undoes all that has been written, mapped, unmapped and changed since; but what MapForHost has given stays, as zeros, and
  // what BackSealed has, as it is; or both go, too. On failure it is not to be used any more.
  enum class HostMemory : bool { kStays, kGoes };
  absl::Status ReturnToImage(HostMemory host_memory = HostMemory::kStays);
  // Null: none was taken or adopted.
  std::shared_ptr<const MemoryImage> image() const;
  // Readable and writable memory that the guest may not change the mapping of, named `name`. It lies where the
  // image has nothing, too.
  hostcalls::SyscallResult MapForHost(std::uint64_t length, const std::string& name);

  // Around fork: the map does not change in between. The child makes the lock anew: a read-write
  // lock knows its writer by the thread id, which is another one there.
  void LockForFork() {
    mutex_.lock();
    EndOnlyViewsLocked();
  }
  void UnlockInParent() { mutex_.unlock(); }
  // Of the threads that want the pool closed there is only the one that forked.
  void UnlockInChild() {
    std::construct_at(&mutex_);
    if (users_.load() > 1) users_.store(1);
  }

  // In a forked child whose engine is there: what the kernel has not copied into it (MADV_DONTFORK) is gone.
  void DropLeftBehind();

  // Where the heap begins; the loader sets it once, after the program's image.
  void SetHeapStart(GuestVirt start);
  // Anonymous memory with a name ("[stack]"), anywhere below `below`.
  hostcalls::SyscallResult MapNamed(GuestVirt address, std::uint64_t length, int prot,
                                    const std::string& name);
  // Enters a mapping that already exists on the host and that the guest may not change.
  void AddSealed(const GuestRange& range, Protection protection, const std::string& name,
                 Sharing sharing = Sharing::kPrivate);
  // Puts a file of the host's behind a part of what is sealed, or, -1, nothing again; `flags` as of mmap(2). For the
  // guest's map it stays what it was, so images neither have it nor take it away. kInvalidArgument: not all of it is
  // sealed.
  absl::Status BackSealed(const GuestRange& range, int prot, int flags, int fd);
  // A free place of `length` bytes in the mmap area; 0 when there is none.
  GuestVirt FindFree(std::uint64_t length, std::uint64_t alignment = kPageSize) const;
  // The same, where the layout wants images of programs to be.
  GuestVirt FindFreeForImage(std::uint64_t length, std::uint64_t alignment = kPageSize) const;

  // Calls `visit` with the VMA at `address`, or null, while the map cannot change.
  template <typename Visit>
  auto WithVma(GuestVirt address, Visit visit) const {
    std::shared_lock lock(mutex_);
    return visit(map_.Find(address));
  }
  // The same with the whole map.
  template <typename Visit>
  auto WithMap(Visit visit) const {
    std::shared_lock lock(mutex_);
    return visit(map_);
  }
  void LookAtMap(absl::FunctionRef<void(const VmaMap& map)> look) const override { WithMap(look); }
  void ForEachVma(const std::function<bool(const Vma&)>& visit) const;
  // The text of /proc/self/maps as the guest should see it.
  std::string FormatMaps() const;

 private:
  hostcalls::SyscallResult MapLocked(const MapRequest& request, std::string name);
  hostcalls::SyscallResult UnmapLocked(const GuestRange& range);
  hostcalls::SyscallResult MoveLocked(const RemapRequest& request, const Vma& vma);
  hostcalls::SyscallResult GrowInPlaceLocked(const RemapRequest& request, const Vma& vma);
  std::optional<GuestVirt> Place(const MapRequest& request, std::uint64_t length,
                                 std::uint64_t alignment) const;
  std::optional<GuestVirt> PlaceAnywhere(std::uint64_t length, std::uint64_t alignment, int flags) const;
  bool Fits(const Vma& vma, const GuestRange& replaced) const;
  bool FitsLimits(const Vma& vma, const GuestRange& replaced) const;
  bool HasRoomFor(const Vma& vma, const GuestRange& replaced) const;
  // After each change of the map.
  void CountIn(const Vma& vma);
  void CountOut(const GuestRange& range);
  std::optional<GuestVirt> FindGap(std::uint64_t length, std::uint64_t alignment) const;
  void ChoosePoolLocked();
  using PoolStates = std::array<std::uint8_t, abi::MemoryPool::kAllPages>;
  // A range of the pool, by the number of its first page.
  struct PoolPart {
    GuestRange range;
    std::uint64_t first;
    bool is_heap() const { return first != 0; }
  };
  std::array<PoolPart, 2> PoolPartsLocked() const;
  void ChooseHeapLocked();
  const std::uint8_t* PoolStateAt(GuestVirt address) const;
  template <typename Visit>
  void ForEachRunLocked(const PoolStates& states, Visit visit) const;
  template <typename StateOfVma>
  void EnterMappingsLocked(PoolStates& states, StateOfVma state_of) const;
  static std::uint8_t StateOfLocked(const Vma& vma, const PoolPart& part);
  bool BackPoolLocked(const PoolStates& states);
  void TakePoolBackLocked();
  void TakeBackRunLocked(const PoolPart& part, const GuestRange& run, std::uint8_t state);
  void KeepFromPoolLocked(const GuestRange& range);
  std::optional<GuestVirt> PlaceForHost(std::uint64_t length) const;
  hostcalls::SyscallResult DropLocked(const GuestRange& range);
  // Whoever gets such memory too sees it from now on.
  void EndOnlyViewsLocked();
  hostcalls::SyscallResult AdviseLocked(const GuestRange& range, int advice) const;
  RangeSet ContentsLocked() const;
  absl::Status CopyLocked(MemoryImage::Writer& writer) const;
  absl::Status MapSegmentsLocked(const MemoryImage& image, const GuestRange& range) const;
  absl::Status BackLocked(const GuestRange& range, int prot, int flags, int fd);
  absl::Status UndoChangesLocked();
  absl::Status UndoWritesLocked(std::uint64_t hot) const;
  void UndoPages(std::span<std::byte> pages, std::uint64_t& hot) const;
  void Forget(const GuestRange& range) const;
  bool ChangeHostRights(const GuestRange& range, int host_prot) const;
  void BounceHost(const GuestRange& range, Protection protection) const;

  const hostcalls::GuestMemory& memory_;
  const Layout layout_;
  MappingObserver* observer_ = nullptr;
  HostMapper host_;
  mutable std::shared_mutex mutex_;
  VmaMap map_;
  GuestVirt heap_start_;
  GuestVirt heap_end_;
  std::uint64_t data_limit_ = 0;  // bytes; 0: none, and nothing is counted
  RangeSet data_, touchable_;     // with a limit: what was data, and accessible, since it was mapped
  hostcalls::LimitNotes* notes_ = nullptr;  // null: nobody is told
  const hostcalls::MemoryLimits* limits_ = nullptr;  // the program's own; null: none
  bool lock_future_ = false;  // mlockall(MCL_FUTURE)
  GuestRange pool_range_;     // where the pool is whenever it is open; empty: not chosen
  GuestRange heap_window_;    // the same of the heap's end
  GuestRange lent_heap_;      // heap_window_ or empty: at the last opening
  unsigned heap_moves_ = 0;   // of its end, by the host
  abi::MemoryPool* pool_ = nullptr;  // of the engine that has it open
  std::atomic<bool> pool_is_open_ = false;
  std::atomic<bool> pool_is_placed_ = false;  // pool_range_ is, and does not change any more
  std::atomic<std::uint64_t> pool_opening_ = 0;
  std::atomic<int> users_ = 0;  // who want it closed
  bool pool_is_retired_ = false;
  std::shared_ptr<const MemoryImage> image_;  // null: none was taken
  RangeSet changed_;  // with an image: where the mapping is not the image's any more
  RangeSet for_host_;  // with an image: what MapForHost has given since
  RangeSet backed_;    // what BackSealed has put something behind
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_ADDRESS_SPACE_H_
