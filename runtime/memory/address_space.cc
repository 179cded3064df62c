#include "runtime/memory/address_space.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "hostcalls/services/separate_descriptors.h"
#include "runtime/memory/refusals.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace dunebox::memory {

using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;

namespace {

constexpr std::uint64_t kHugePage = 2 * 1024 * 1024;
constexpr std::uint64_t kLargestLowImage = std::uint64_t{256} << 20;
constexpr GuestRange kLow2GiB{GuestVirt{0x1'0000}, GuestVirt{0x8000'0000}};

// Where the kernel keeps System V segments, as /proc/self/maps shows it. [linux]
constexpr std::uint64_t kSegmentDevice = 1;

// Flags that say where; we place every mapping ourselves.
constexpr int kPlacementFlags =
    MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_GROWSDOWN | MAP_STACK;

SyscallResult FromErrno() { return Errno{errno}; }

SyscallResult FromAddress(GuestVirt address) {
  return SyscallResult(static_cast<std::int64_t>(address.value));
}

// [linux] MAP_HUGE_SHIFT: the size's logarithm in the flags of mmap.
constexpr int kHugeShift = 26;
constexpr int kHugeMask = 0x3f;

// Of the pages that MAP_HUGETLB asks for. Nothing: of no size that x86-64 has.
std::optional<std::uint64_t> HugePageOf(int flags) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 30;
  const int logarithm = (flags >> kHugeShift) & kHugeMask;
  if (logarithm == 0) return kHugePage;
  const std::uint64_t bytes = std::uint64_t{1} << logarithm;
  return bytes == kHugePage || bytes == kLargest ? std::optional(bytes) : std::nullopt;
}

constexpr std::uint64_t RoundUp(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// As the kernel calls anonymous memory of large pages.
std::shared_ptr<const Backing> HugePages(std::uint64_t page_bytes) {
  auto backing = std::make_shared<Backing>();
  backing->name = "/anon_hugepage (deleted)";
  backing->page_bytes = page_bytes;
  return backing;
}

// A segment of large pages is longer than it says, and nothing else tells that it is one. Where it was attached the kernel has
// seen to it that nothing else was there; `behind` is what the map has free from its end to the end of a large page.
bool ReachesInto(void* behind) {
  unsigned char is_there = 0;
  return mincore(behind, kPageSize, &is_there) == 0;
}

std::shared_ptr<const Backing> Segment(int id, int key, std::uint64_t length, std::uint64_t page_bytes) {
  auto backing = std::make_shared<Backing>();
  backing->name = absl::StrFormat("/SYSV%08x (deleted)", key);
  backing->device = kSegmentDevice;
  backing->inode = static_cast<std::uint64_t>(id);
  backing->segment_bytes = length;
  backing->page_bytes = page_bytes;
  return backing;
}

// Files of large pages have a file system of their own, whose blocks they are. Others (over a network, say) have blocks of
// more than a page, too, and would have to ask somebody.
std::uint64_t PageBytesOf(int fd, const struct stat& info) {
  constexpr blksize_t kSmallestLargePage = 2 << 20;  // of this machine's
  struct statfs file_system{};
  const bool is_huge = info.st_blksize >= kSmallestLargePage && fstatfs(fd, &file_system) == 0 &&
                       file_system.f_type == HUGETLBFS_MAGIC;
  return is_huge ? static_cast<std::uint64_t>(file_system.f_bsize) : kPageSize;
}

bool MayExecute(const Vma& vma) { return vma.backing == nullptr || !vma.backing->never_executable; }

// What /proc/self/maps will say of a mapping of the descriptor.
std::shared_ptr<const Backing> DescribeFile(int fd, bool never_executable) {
  auto backing = std::make_shared<Backing>();
  backing->never_executable = never_executable;
  struct stat info;
  if (fstat(fd, &info) == 0) {
    backing->device = info.st_dev;
    backing->inode = info.st_ino;
    backing->page_bytes = PageBytesOf(fd, info);
  }
  backing->writable = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
  char path[4096];
  const std::string link = hostcalls::DescriptorPath(fd);
  const ssize_t length = readlink(link.c_str(), path, sizeof(path));
  if (length > 0) backing->name.assign(path, static_cast<std::size_t>(length));
  return backing;
}

// A vCPU's run area. The guest has no descriptor of one; this makes sure.
bool IsEngineMemory(const Backing& backing) {
  return backing.name.compare(0, 14, "anon_inode:kvm") == 0;
}

// The page-aligned range of a call, or nothing when it is empty, unaligned or wraps.
std::optional<GuestRange> PageRange(std::uint64_t address, std::uint64_t length) {
  const std::uint64_t bytes = PageUp(length);
  if (!IsPageAligned(address) || bytes < length || address + bytes < address) return std::nullopt;
  return GuestRange{GuestVirt{address}, GuestVirt{address + bytes}};
}

constexpr std::uint64_t kEntriesOfTable = 512;  // a page table's page is for so many pages

constexpr int kDontNeedLocked = 24;  // [linux] MADV_DONTNEED_LOCKED

// Advice about the pages that are there now, or none: the kernel does not note it for those that come.
bool IsPassing(int advice) {
  constexpr int kPassing[] = {MADV_NORMAL,   MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
                              MADV_DONTNEED, MADV_FREE,   MADV_COLD,       MADV_PAGEOUT};
  return std::ranges::find(kPassing, advice) != std::end(kPassing);
}

// Advice that gives other contents to memory.
bool MayEmpty(int advice) {
  constexpr int kEmptying[] = {MADV_DONTNEED, kDontNeedLocked, MADV_FREE, MADV_REMOVE};
  return std::ranges::find(kEmptying, advice) != std::end(kEmptying);
}

bool HasExecutable(const VmaMap& map, const GuestRange& range) {
  bool has = false;
  map.ForEachIn(range, [&](const Vma& vma) { return !(has = vma.protection.execute); });
  return has;
}

bool IsPrivateAnonymous(const Vma& vma) {
  return vma.sharing == Sharing::kPrivate && !vma.file_backed;
}

}  // namespace

AddressSpace::AddressSpace(const hostcalls::GuestMemory& memory, const Layout& layout)
    : memory_(memory), layout_(layout) {
  host_.SetReserved(memory.window().is_reserved);
}

void AddressSpace::Forget(const GuestRange& range) const {
  if (observer_ != nullptr) observer_->Forget(range);
}

// Makes the host drop its secondary mappings of the range although its own rights stay the same.
// A sibling that faults in between finds the VMA's rights unchanged and is retried by the engine.
void AddressSpace::BounceHost(const GuestRange& range, Protection protection) const {
  void* address = memory_.HostAddress(range.start.value, range.size());
  mprotect(address, range.size(), PROT_NONE);
  mprotect(address, range.size(), protection.ToHostProt());
}

absl::Status AddressSpace::UseKey(int key) {
  std::unique_lock lock(mutex_);
  host_.SetKey(key);
  bool all = true;
  map_.ForEach([&](const Vma& vma) {
    void* start = memory_.HostAddress(vma.range.start.value, vma.range.size());
    all = host_.Adopt(start, vma.range.size(), vma.protection.ToHostProt());
    return all;
  });
  return all ? absl::OkStatus() : absl::ResourceExhaustedError("cannot give memory its key");
}

void AddressSpace::LimitData(std::uint64_t bytes, hostcalls::LimitNotes* notes) {
  data_limit_ = bytes;
  notes_ = notes;
  map_.ForEach([this](const Vma& vma) {
    CountIn(vma);
    return true;
  });
}

void AddressSpace::CountIn(const Vma& vma) {
  if (image_ != nullptr) changed_.Add(vma.range);
  if (data_limit_ == 0) return;
  if (IsData(vma)) data_.Add(vma.range);
  if (vma.protection.any()) touchable_.Add(vma.range);
}

void AddressSpace::CountOut(const GuestRange& range) {
  if (image_ != nullptr) changed_.Add(range);
  if (data_limit_ == 0) return;
  data_.Remove(range);
  touchable_.Remove(range);
}

// Is there room for `vma` when what is in `replaced` goes away?
bool AddressSpace::Fits(const Vma& vma, const GuestRange& replaced) const {
  if (data_limit_ == 0) return true;
  const std::uint64_t more = vma.range.size();
  const bool data_fits =
      !IsData(vma) || data_.size() - data_.SizeIn(replaced) + more <= data_limit_;
  const std::uint64_t pages = (touchable_.size() - touchable_.SizeIn(replaced) + more) / kPageSize;
  const bool tables_fit =
      !vma.protection.any() || pages / kEntriesOfTable <= data_limit_ / kPageSize;
  return data_fits && tables_fit;
}

// The same for the limits of the program's own. Only what makes more of something can be too much.
bool AddressSpace::FitsLimits(const Vma& vma, const GuestRange& replaced) const {
  if (limits_ == nullptr || !limits_->any()) return true;
  const MemorySizes more = SizesOf(vma);
  const MemorySizes less = map_.SizesIn(replaced);
  const auto fits = [](std::uint64_t now, std::uint64_t added, std::uint64_t gone, std::uint64_t limit) {
    return added <= gone || now - gone + added <= limit;
  };
  return fits(map_.sizes().all, more.all, less.all, limits_->all) &&
         fits(map_.sizes().data, more.data, less.data, limits_->data);
}

// The same for a program. If the session's limit has refused something that is said at the end.
bool AddressSpace::HasRoomFor(const Vma& vma, const GuestRange& replaced) const {
  const bool fits = Fits(vma, replaced);
  if (!fits) ++refusals;
  if (!fits && notes_ != nullptr) notes_->Note(hostcalls::RefusedLimit::kMemory);
  return fits && FitsLimits(vma, replaced);
}

// ---- mmap --------------------------------------------------------------------------------------

std::optional<GuestVirt> AddressSpace::Place(const MapRequest& request, std::uint64_t length,
                                             std::uint64_t alignment) const {
  const GuestVirt hint{request.address & ~(alignment - 1)};
  const GuestRange wanted{hint, hint + length};
  const bool is_free = memory_.Contains(wanted) && !map_.Overlaps(wanted);
  if (request.address != 0 && is_free) return wanted.start;
  // Files may be libraries; what is larger is data.
  const bool private_file = (request.flags & (MAP_ANONYMOUS | MAP_TYPE)) == MAP_PRIVATE;
  if (private_file && length <= kLargestLowImage && !layout_.image_area.empty()) {
    if (auto place = map_.FindGapTopDown(layout_.image_area, length, alignment)) return place;
  }
  // What ring 0 could have answered goes where ring 0 can take it over.
  const bool poolable = (request.flags & (MAP_TYPE | MAP_ANONYMOUS | MAP_32BIT | MAP_HUGETLB)) ==
                            (MAP_PRIVATE | MAP_ANONYMOUS) &&
                        length < kHugePage && !pool_range_.empty();
  if (poolable) {
    if (auto place = map_.FindGapTopDown(pool_range_, length, kPageSize)) return place;
  }
  return PlaceAnywhere(length, alignment, request.flags);
}

std::optional<GuestVirt> AddressSpace::PlaceAnywhere(std::uint64_t length, std::uint64_t alignment,
                                                     int flags) const {
  if ((flags & MAP_32BIT) != 0) return map_.FindGapTopDown(kLow2GiB, length, alignment);
  // Big mappings start on a huge-page boundary, so that the host can back them with huge pages.
  if (length >= kHugePage && alignment < kHugePage) {
    if (auto aligned = FindGap(length, kHugePage)) return aligned;
  }
  return FindGap(length, alignment);
}

// The memory pool's place is taken by others only when there is no other.
std::optional<GuestVirt> AddressSpace::FindGap(std::uint64_t length,
                                               std::uint64_t alignment) const {
  const GuestRange area{layout_.mmap_bottom, layout_.mmap_top};
  if (!pool_range_.empty()) {
    for (const GuestRange& part : {GuestRange{pool_range_.end, area.end},
                                   GuestRange{area.start, pool_range_.start}}) {
      if (auto place = map_.FindGapTopDown(part, length, alignment)) return place;
    }
  }
  return map_.FindGapTopDown(area, length, alignment);
}

SyscallResult AddressSpace::MapLocked(const MapRequest& request, std::string name) {
  if (request.length == 0) return Errno{EINVAL};
  const bool anonymous = (request.flags & MAP_ANONYMOUS) != 0;
  std::optional<hostcalls::LowDescriptors::Use> use;
  if (!anonymous && request.low_descriptors != nullptr) use.emplace(*request.low_descriptors);
  std::shared_ptr<const Backing> backing;
  if (!anonymous) {
    backing = DescribeFile(request.fd, request.never_executable);
    if (IsEngineMemory(*backing)) return Errno{EACCES};
  } else if ((request.flags & MAP_HUGETLB) != 0) {
    const std::optional<std::uint64_t> page = HugePageOf(request.flags);
    if (!page) return Errno{EINVAL};
    backing = HugePages(*page);
  } else {
    backing = Named(std::move(name));
  }
  // What the kernel will take, which rounds up to whole pages of the file's kind.
  const std::uint64_t page_bytes = backing == nullptr ? kPageSize : backing->page_bytes;
  const std::uint64_t length = RoundUp(request.length, page_bytes);
  if (length < request.length) return Errno{ENOMEM};

  const bool keep = (request.flags & MAP_FIXED_NOREPLACE) != 0;  // the stronger of the two
  const bool replace = (request.flags & MAP_FIXED) != 0 && !keep;
  const bool exact = replace || keep;
  GuestVirt start{request.address};
  if (exact) {
    if (request.address % page_bytes != 0) return Errno{EINVAL};
    if (request.address < memory_.window().lowest) return Errno{EPERM};
    if (!memory_.Contains(request.address, length)) return Errno{ENOMEM};
  } else if (const auto place = Place(request, length, page_bytes)) {
    start = *place;
  } else {
    return Errno{ENOMEM};
  }

  const GuestRange range{start, start + length};
  const Protection protection = Protection::FromProt(request.prot);
  const bool shared = (request.flags & MAP_TYPE) != MAP_PRIVATE;
  Vma vma{.range = range,
          .protection = protection,
          .sharing = shared ? Sharing::kShared : Sharing::kPrivate,
          .file_backed = !anonymous,
          .is_only_view = shared && anonymous && !memory_.window().is_reserved,
          .offset = anonymous ? 0 : request.offset,
          .backing = std::move(backing)};
  if (protection.execute && !MayExecute(vma)) return Errno{EPERM};
  if (!HasRoomFor(vma, range)) return Errno{ENOMEM};
  if (replace) {
    if (map_.AnySealed(range)) return Errno{EPERM};
    Forget(range);
  } else if (map_.Overlaps(range)) {
    return Errno{EEXIST};
  }

  int flags = (request.flags & ~kPlacementFlags) | (replace ? MAP_FIXED : MAP_FIXED_NOREPLACE) |
              (lock_future_ ? MAP_LOCKED : 0);
  // Else the size would be what the administrator has chosen.
  if (anonymous && page_bytes != kPageSize) {
    flags = (flags & ~(kHugeMask << kHugeShift)) | (std::countr_zero(page_bytes) << kHugeShift);
  }
  void* wanted = memory_.HostAddress(start.value, length);
  void* mapped = host_.Map(wanted, length, protection.ToHostProt(), flags,
                           anonymous ? -1 : request.fd, static_cast<off_t>(request.offset));
  if (mapped == MAP_FAILED) return FromErrno();
  use.reset();
  CountOut(range);
  CountIn(vma);
  map_.Replace(std::move(vma));
  return FromAddress(start);
}

SyscallResult AddressSpace::Map(const MapRequest& request) {
  std::unique_lock lock(mutex_);
  ChoosePoolLocked();
  return MapLocked(request, "");
}

SyscallResult AddressSpace::MapNamed(GuestVirt address, std::uint64_t length, int prot,
                                     const std::string& name) {
  std::unique_lock lock(mutex_);
  return MapLocked({.address = address.value,
                    .length = length,
                    .prot = prot,
                    .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE},
                   name);
}

void AddressSpace::AddSealed(const GuestRange& range, Protection protection,
                             const std::string& name, Sharing sharing) {
  std::unique_lock lock(mutex_);
  // It does not go when an image comes back: it is the host's.
  changed_.Remove(range);
  map_.Replace({.range = range, .protection = protection, .sharing = sharing, .sealed = true, .backing = Named(name)});
}

absl::Status AddressSpace::BackSealed(const GuestRange& range, int prot, int flags, int fd) {
  std::unique_lock lock(mutex_);
  bool is_sealed = memory_.Contains(range) && map_.Covers(range);
  map_.ForEachIn(range, [&](const Vma& vma) { return is_sealed = is_sealed && vma.sealed; });
  if (!is_sealed) return absl::InvalidArgumentError("not all of the range is sealed");
  backed_.Add(range);
  return BackLocked(range, prot, flags, fd);
}

absl::Status AddressSpace::BackLocked(const GuestRange& range, int prot, int flags, int fd) {
  Forget(range);
  void* const wanted = memory_.HostAddress(range.start.value, range.size());
  if (host_.Map(wanted, range.size(), prot, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
    return absl::ResourceExhaustedError("the host's kernel refuses a mapping");
  }
  return absl::OkStatus();
}

GuestVirt AddressSpace::FindFree(std::uint64_t length, std::uint64_t alignment) const {
  std::shared_lock lock(mutex_);
  return FindGap(PageUp(length), alignment).value_or(GuestVirt{0});
}

GuestVirt AddressSpace::FindFreeForImage(std::uint64_t length, std::uint64_t alignment) const {
  if (!layout_.image_area.empty()) {
    std::shared_lock lock(mutex_);
    const auto place = map_.FindGapTopDown(layout_.image_area, PageUp(length), alignment);
    if (place) return *place;
  }
  return FindFree(length, alignment);
}

// ---- munmap, mprotect, madvise ------------------------------------------------------------------

SyscallResult AddressSpace::UnmapLocked(const GuestRange& range) {
  if (map_.AnySealed(range)) return Errno{EPERM};
  if (!map_.Overlaps(range)) return kSuccess;
  Forget(range);
  if (!host_.Unmap(memory_.HostAddress(range.start.value, range.size()), range.size())) {
    return FromErrno();
  }
  map_.Erase(range);
  CountOut(range);
  return kSuccess;
}

SyscallResult AddressSpace::Unmap(std::uint64_t address, std::uint64_t length) {
  const auto range = PageRange(address, length);
  if (!range || range->empty() || address + range->size() > memory_.window().limit) {
    return Errno{EINVAL};
  }
  // Linux unmaps page 0 gladly; below our window there is nothing to unmap.
  const std::uint64_t lowest = memory_.window().lowest;
  if (range->end.value <= lowest) return kSuccess;
  std::unique_lock lock(mutex_);
  return UnmapLocked({GuestVirt{std::max(address, lowest)}, range->end});
}

SyscallResult AddressSpace::Protect(std::uint64_t address, std::uint64_t length, int prot) {
  constexpr int kKnown = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN;
  constexpr int kProtSem = 0x8;
  const auto range = PageRange(address, length);
  // Nothing grows upwards on x86.
  if ((prot & ~(kKnown | kProtSem)) != 0 || !IsPageAligned(address)) return Errno{EINVAL};
  if (!range) return Errno{ENOMEM};
  if (range->empty()) return kSuccess;
  if (!memory_.Contains(*range)) return Errno{ENOMEM};
  const Protection wanted = Protection::FromProt(prot);

  std::unique_lock lock(mutex_);
  if (map_.AnySealed(*range)) return Errno{EPERM};
  // VMA by VMA, as Linux does: what lies before a hole is changed all the same.
  GuestVirt next = range->start;
  if ((prot & PROT_GROWSDOWN) != 0) {
    const Vma* const vma = map_.Find(next);
    if (vma == nullptr) return Errno{ENOMEM};
    if (!IsStack(*vma)) return Errno{EINVAL};
    next = vma->range.start;
  }
  while (next < range->end) {
    const Vma* vma = map_.Find(next);
    if (vma == nullptr) return Errno{ENOMEM};
    const GuestRange part{next, std::min(vma->range.end, range->end)};
    const Protection old = vma->protection;
    next = part.end;
    if (old == wanted) continue;
    if (wanted.execute && !MayExecute(*vma)) return Errno{EACCES};
    Vma after = *vma;
    after.range = part;
    after.protection = wanted;
    if (!HasRoomFor(after, part)) return Errno{ENOMEM};
    Forget(part);
    void* host = memory_.HostAddress(part.start.value, part.size());
    const bool host_keeps_rights = old.ToHostProt() == wanted.ToHostProt();
    if (!host_keeps_rights && mprotect(host, part.size(), wanted.ToHostProt()) != 0) {
      return FromErrno();
    }
    if (host_keeps_rights && old.execute && !wanted.execute && observer_ != nullptr &&
        observer_->NeedsHostInvalidation()) {
      BounceHost(part, wanted);
    }
    map_.SetProtection(part, wanted);
    CountIn(after);
  }
  return kSuccess;
}

// The host mapping gets these rights, and the engine forgets what it was told of it.
bool AddressSpace::ChangeHostRights(const GuestRange& range, int host_prot) const {
  Forget(range);
  return mprotect(memory_.HostAddress(range.start.value, range.size()), range.size(), host_prot) == 0;
}

bool AddressSpace::Poke(std::uint64_t address, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const GuestRange page{GuestVirt{PageDown(address)}, GuestVirt{PageDown(address) + kPageSize}};
    const std::size_t part = std::min<std::size_t>(page.end.value - address, bytes.size());
    if (!memory_.Contains(page)) return false;
    int before = 0;
    {
      const std::unique_lock lock(mutex_);
      const Vma* const vma = map_.Find(page.start);
      const bool may_write = vma != nullptr && !vma->sealed &&
                             (vma->protection.write || vma->sharing == Sharing::kPrivate);
      if (!may_write) return false;
      before = vma->protection.ToHostProt();
      if (!ChangeHostRights(page, PROT_READ | PROT_WRITE)) return false;
    }
    const bool written = memory_.Write(address, bytes.first(part));
    const std::unique_lock lock(mutex_);
    if (!ChangeHostRights(page, before) || !written) return false;
    address += part;
    bytes = bytes.subspan(part);
  }
  return true;
}

SyscallResult AddressSpace::Advise(std::uint64_t address, std::uint64_t length, int advice) {
  constexpr int kSoftOffline = 101;
  constexpr int kGuardInstall = 102;
  const auto range = PageRange(address, length);
  if (!range) return Errno{EINVAL};
  if (!memory_.Contains(*range)) return Errno{ENOMEM};
  switch (advice) {
    case MADV_HWPOISON:
    case kSoftOffline:
      return Errno{EPERM};
    case kGuardInstall:  // a fault in a guard page could not be told from one past a file's end
    case kGuardInstall + 1:
      return Errno{EINVAL};
    default:
      break;
  }
  if (!IsPassing(advice)) KeepFromPool(*range);
  if (image_ != nullptr && (advice == MADV_DONTNEED || advice == MADV_FREE)) {
    std::unique_lock lock(mutex_);
    return DropLocked(*range);
  }
  if (advice == MADV_DONTFORK || advice == MADV_DOFORK) {
    const std::unique_lock lock(mutex_);
    const SyscallResult done = AdviseLocked(*range, advice);
    // Before and behind a hole it holds all the same.
    if (done.ok() || done.error() == ENOMEM) map_.SetLeftBehind(*range, advice == MADV_DONTFORK);
    return done;
  }
  {
    const std::shared_lock lock(mutex_);
    if (!MayEmpty(advice) || !HasExecutable(map_, *range)) return AdviseLocked(*range, advice);
  }
  // Nobody makes code of what is there before it has gone.
  const std::unique_lock lock(mutex_);
  Forget(*range);
  return AdviseLocked(*range, advice);
}

SyscallResult AddressSpace::AdviseLocked(const GuestRange& range, int advice) const {
  if (map_.AnySealed(range)) return Errno{EPERM};
  void* const host = memory_.HostAddress(range.start.value, range.size());
  return madvise(host, range.size(), advice) == 0 ? kSuccess : FromErrno();
}

void AddressSpace::DropLeftBehind() {
  const std::unique_lock lock(mutex_);
  std::vector<GuestRange> gone;
  map_.ForEach([&](const Vma& vma) {
    if (vma.is_left_behind) gone.push_back(vma.range);
    return true;
  });
  for (const GuestRange& range : gone) {
    Forget(range);
    map_.Erase(range);
    CountOut(range);
  }
}

// ---- mremap -------------------------------------------------------------------------------------

SyscallResult AddressSpace::GrowInPlaceLocked(const RemapRequest& request, const Vma& vma) {
  const GuestRange tail{GuestVirt{request.old_address + request.old_length},
                        GuestVirt{request.old_address + request.new_length}};
  if (vma.range.end != tail.start || !memory_.Contains(tail) || map_.Overlaps(tail)) {
    return Errno{ENOMEM};
  }
  void* host = memory_.HostAddress(request.old_address, request.old_length);
  if (!host_.Grow(host, request.old_length, request.new_length, vma.protection.ToHostProt(),
                  IsPrivateAnonymous(vma))) {
    return FromErrno();
  }
  Vma grown = vma;
  grown.range = tail;
  if (grown.file_backed) grown.offset += tail.start - vma.range.start;
  CountIn(grown);
  map_.Replace(std::move(grown));
  return FromAddress(GuestVirt{request.old_address});
}

SyscallResult AddressSpace::MoveLocked(const RemapRequest& request, const Vma& vma) {
  const GuestRange old{GuestVirt{request.old_address},
                       GuestVirt{request.old_address + request.old_length}};
  GuestVirt target{request.new_address};
  if ((request.flags & MREMAP_FIXED) == 0) {
    const auto place = PlaceAnywhere(request.new_length, vma.page_bytes(), 0);
    if (!place) return Errno{ENOMEM};
    target = *place;
  }
  const GuestRange fresh{target, target + request.new_length};
  if (!memory_.Contains(fresh) || fresh.Overlaps(old)) return Errno{EINVAL};
  if (map_.AnySealed(fresh)) return Errno{EPERM};

  Forget(old);
  Forget(fresh);
  // Not HostAddress(old): its size may be zero, which duplicates a shared mapping.
  void* host = memory_.HostAddress(request.old_address, std::max<std::uint64_t>(old.size(), 1));
  if (!host_.Move(host, request.old_length, memory_.HostAddress(target.value, request.new_length),
                  request.new_length, request.flags & MREMAP_DONTUNMAP,
                  vma.protection.ToHostProt(), IsPrivateAnonymous(vma))) {
    return FromErrno();
  }

  Vma result = vma;
  if (result.file_backed) result.offset += old.start - vma.range.start;
  result.range = fresh;
  CountOut(fresh);
  // What was filled stays so where it goes; mremap moves no more than one mapping.
  if (data_.SizeIn(old) != 0) data_.Add(fresh);
  if ((request.flags & MREMAP_DONTUNMAP) == 0) {
    map_.Erase(old);
    CountOut(old);
  }
  CountIn(result);
  map_.Replace(std::move(result));
  return FromAddress(target);
}

SyscallResult AddressSpace::Remap(const RemapRequest& original) {
  constexpr int kKnown = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  RemapRequest request = original;
  if ((request.flags & ~kKnown) != 0 || !IsPageAligned(request.old_address)) return Errno{EINVAL};
  const bool fixed = (request.flags & MREMAP_FIXED) != 0;
  const bool may_move = (request.flags & MREMAP_MAYMOVE) != 0;
  const bool keep_old = (request.flags & MREMAP_DONTUNMAP) != 0;
  if ((fixed || keep_old) && !may_move) return Errno{EINVAL};
  if (fixed && !IsPageAligned(request.new_address)) return Errno{EINVAL};
  if (request.new_length == 0) return Errno{EINVAL};
  if (PageUp(request.new_length) < request.new_length ||
      PageUp(request.old_length) < request.old_length) {
    return Errno{EINVAL};
  }
  request.old_length = PageUp(request.old_length);
  request.new_length = PageUp(request.new_length);
  if (keep_old && request.old_length != request.new_length) return Errno{EINVAL};
  if (!memory_.Contains(request.old_address, std::max(request.old_length, kPageSize))) {
    return Errno{EFAULT};
  }

  std::unique_lock lock(mutex_);
  const GuestRange old{GuestVirt{request.old_address},
                       GuestVirt{request.old_address + request.old_length}};
  if (fixed) {
    const GuestRange fresh{GuestVirt{request.new_address},
                           GuestVirt{request.new_address + request.new_length}};
    if (!memory_.Contains(fresh) || fresh.Overlaps(old)) return Errno{EINVAL};
    if (map_.AnySealed(fresh)) return Errno{EPERM};
  }
  const Vma* found = map_.Find(old.start);
  if (found == nullptr) return Errno{EFAULT};
  if (found->sealed) return Errno{EPERM};
  // The kernel would round up; who asks for whole pages gets what it has asked for.
  const std::uint64_t parts = request.old_address | request.old_length | request.new_length |
                              (fixed ? request.new_address : 0);
  if (parts % found->page_bytes() != 0) return Errno{EINVAL};
  // Length 0 duplicates a shared mapping; a private one has no duplicate.
  if (request.old_length == 0 && found->sharing == Sharing::kPrivate) return Errno{EINVAL};
  const bool in_place = !fixed && !keep_old && request.new_length <= request.old_length;
  const std::uint64_t kept = std::min(request.old_length, request.new_length);
  // Shrinking is an munmap, over any number of mappings; what moves or grows has to be one. [linux]
  if (!in_place && found->range.end < old.start + kept) return Errno{EFAULT};
  if (kept < request.old_length) {
    const SyscallResult cut = UnmapLocked({old.start + kept, old.end});
    if (!cut.ok()) return cut;
    request.old_length = kept;
  }
  if (in_place) return FromAddress(old.start);
  // It may be seen twice then, parts of it that others of its mappings show included.
  if (found->is_only_view) EndOnlyViewsLocked();
  Vma vma = *map_.Find(old.start);  // by value: the map changes below
  // What comes of a stack so is memory as any other, which counts.
  if (IsStack(vma)) vma.backing = nullptr;
  const std::uint64_t gone = keep_old ? 0 : request.old_length;
  Vma after = vma;
  after.range = {old.start, old.start + request.new_length};
  if (!HasRoomFor(after, {old.start, old.start + gone})) return Errno{ENOMEM};
  if (fixed || keep_old) return MoveLocked(request, vma);
  if (request.old_length != 0) {
    const SyscallResult grown = GrowInPlaceLocked(request, vma);
    if (grown.ok() || !may_move) return grown;
  }
  return may_move ? MoveLocked(request, vma) : SyscallResult(Errno{ENOMEM});
}

void AddressSpace::EndOnlyViewsLocked() {
  std::vector<GuestRange> views;
  map_.ForEach([&](const Vma& vma) {
    if (vma.is_only_view) views.push_back(vma.range);
    return true;
  });
  for (const GuestRange& view : views) {
    // What is not executable is nothing that anybody has made code of.
    if (map_.Find(view.start)->protection.execute) Forget(view);
    map_.EndOnlyView(view);
  }
}

// ---- heap ---------------------------------------------------------------------------------------

void AddressSpace::SetHeapStart(GuestVirt start) {
  std::unique_lock lock(mutex_);
  heap_start_ = heap_end_ = GuestVirt{PageUp(start.value)};
}

// brk never fails: it returns where the heap ends now.
SyscallResult AddressSpace::Break(std::uint64_t address) {
  std::unique_lock lock(mutex_);
  if (address < heap_start_.value || !memory_.Contains(address, 0)) return FromAddress(heap_end_);
  const GuestVirt old_end{PageUp(heap_end_.value)};
  const GuestVirt new_end{PageUp(address)};
  if (new_end != old_end) ++heap_moves_;
  if (new_end < old_end) {
    if (!UnmapLocked({new_end, old_end}).ok()) return FromAddress(heap_end_);
  } else if (new_end > old_end) {
    const SyscallResult grown =
        MapLocked({.address = old_end.value,
                   .length = new_end - old_end,
                   .prot = PROT_READ | PROT_WRITE,
                   .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE},
                  "[heap]");
    if (!grown.ok()) return FromAddress(heap_end_);
  }
  heap_end_ = GuestVirt{address};
  return FromAddress(heap_end_);
}

// ---- locking ------------------------------------------------------------------------------------

// VMA by VMA: mlockall itself would lock the runtime's memory as well.
SyscallResult AddressSpace::LockAll(int flags) {
  if (flags == 0 || flags == MCL_ONFAULT ||
      (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) != 0) {
    return Errno{EINVAL};
  }
  std::unique_lock lock(mutex_);
  KeepFromPoolLocked(pool_range_);
  SyscallResult result = kSuccess;
  if ((flags & MCL_CURRENT) != 0) {
    const unsigned how = (flags & MCL_ONFAULT) != 0 ? MLOCK_ONFAULT : 0;
    map_.ForEach([&](const Vma& vma) {
      if (vma.sealed || !vma.protection.any()) return true;
      const GuestRange& range = vma.range;
      if (mlock2(memory_.HostAddress(range.start.value, range.size()), range.size(), how) != 0) {
        result = FromErrno();
      }
      return result.ok();
    });
  }
  if (result.ok() && (flags & MCL_FUTURE) != 0) lock_future_ = true;
  return result;
}

SyscallResult AddressSpace::UnlockAll() {
  std::unique_lock lock(mutex_);
  lock_future_ = false;
  map_.ForEach([&](const Vma& vma) {
    munlock(memory_.HostAddress(vma.range.start.value, vma.range.size()), vma.range.size());
    return true;
  });
  return kSuccess;
}

// ---- System V shared memory ---------------------------------------------------------------------

SyscallResult AddressSpace::AttachShared(int id, std::uint64_t address, int flags) {
  // SHM_REMAP would replace mappings behind the map's back; SHM_EXEC means nothing to the host.
  if ((flags & SHM_REMAP) != 0) return Errno{EINVAL};
  shmid_ds info;
  if (shmctl(id, IPC_STAT, &info) != 0) return FromErrno();
  std::uint64_t length = PageUp(info.shm_segsz);
  const std::uint64_t large = RoundUp(length, kHugePage);
  if ((flags & SHM_RND) != 0) address = PageDown(address);
  if (!IsPageAligned(address)) return Errno{EINVAL};

  std::unique_lock lock(mutex_);
  if (address == 0) {
    auto place = PlaceAnywhere(large, kHugePage, 0);
    if (!place) place = PlaceAnywhere(length, kPageSize, 0);
    if (!place) return Errno{ENOMEM};
    address = place->value;
  }
  const GuestRange range{GuestVirt{address}, GuestVirt{address + length}};
  if (!memory_.Contains(range) || map_.Overlaps(range)) return Errno{EINVAL};
  const Protection protection{
      .read = true, .write = (flags & SHM_RDONLY) == 0, .execute = (flags & SHM_EXEC) != 0};
  Vma vma{.range = range,
          .protection = protection,
          .sharing = Sharing::kShared,
          .file_backed = true,
          .backing = Segment(id, info.shm_perm.__key, length, kPageSize)};
  if (!HasRoomFor(vma, range)) return Errno{ENOMEM};
  const void* attached =
      shmat(id, memory_.HostAddress(address, length), flags & ~(SHM_EXEC | SHM_RND));
  if (attached == reinterpret_cast<void*>(-1)) return FromErrno();
  const GuestRange behind{range.end, GuestVirt{address + large}};
  bool fits = true;
  if (!behind.empty() && memory_.Contains(behind) && !map_.Overlaps(behind) &&
      ReachesInto(memory_.HostAddress(behind.start.value, behind.size()))) {
    length = large;
    vma.range.end = behind.end;
    vma.backing = Segment(id, info.shm_perm.__key, length, kHugePage);
    fits = HasRoomFor(vma, vma.range);
  }
  if (!fits || !host_.Adopt(memory_.HostAddress(address, length), length, protection.ToHostProt())) {
    const int error = fits ? errno : ENOMEM;
    shmdt(attached);
    return Errno{error};
  }
  CountIn(vma);
  map_.Replace(std::move(vma));
  return FromAddress(range.start);
}

// As Linux: takes away what of the segment still is where an attach at `address` put it. Parts that
// were unmapped, moved or mapped over meanwhile are somebody else's.
SyscallResult AddressSpace::DetachShared(std::uint64_t address) {
  if (!IsPageAligned(address) || !memory_.Contains(address, kPageSize)) return Errno{EINVAL};
  std::unique_lock lock(mutex_);
  std::vector<GuestRange> parts;
  std::shared_ptr<const Backing> segment;
  const GuestRange above{GuestVirt{address}, GuestVirt{memory_.window().limit}};
  map_.ForEachIn(above, [&](const Vma& vma) {
    if (segment != nullptr && vma.range.start.value - address >= segment->segment_bytes) {
      return false;
    }
    const bool attached_here = vma.backing != nullptr && vma.backing->segment_bytes != 0 &&
                               vma.range.start.value - address == vma.offset;
    if (attached_here && (segment == nullptr || *segment == *vma.backing)) {
      segment = vma.backing;
      parts.push_back(vma.range);
    }
    return true;
  });
  if (parts.empty()) return Errno{EINVAL};
  for (const GuestRange& part : parts) Forget(part);
  if (shmdt(memory_.HostAddress(address, kPageSize)) != 0) return FromErrno();
  for (const GuestRange& part : parts) {
    map_.Erase(part);
    CountOut(part);
  }
  return kSuccess;
}

// ---- views --------------------------------------------------------------------------------------

void AddressSpace::ForEachVma(const std::function<bool(const Vma&)>& visit) const {
  std::shared_lock lock(mutex_);
  map_.ForEach(visit);
}

std::string AddressSpace::FormatMaps() const {
  std::string text;
  ForEachVma([&](const Vma& vma) {
    const Backing none;
    const Backing& backing = vma.backing != nullptr ? *vma.backing : none;
    std::string line = absl::StrFormat(
        "%08x-%08x %c%c%c%c %08x %02x:%02x %d ", vma.range.start.value, vma.range.end.value,
        vma.protection.read ? 'r' : '-', vma.protection.write ? 'w' : '-',
        vma.protection.execute ? 'x' : '-', vma.sharing == Sharing::kShared ? 's' : 'p', vma.offset,
        major(backing.device), minor(backing.device), backing.inode);
    if (!backing.name.empty()) {
      if (line.size() < 73) line.resize(73, ' ');  // the kernel's column for names
      line += absl::StrReplaceAll(backing.name, {{"\n", "\\012"}});  // a line is a mapping, whatever files are called
    }
    text += line + "\n";
    return true;
  });
  return text;
}

}  // namespace dunebox::memory
