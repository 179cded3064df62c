#include "sandbox/compartment/paged_space.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "dune/trap.h"
#include "libdune/backend.h"
#include "runtime/memory/refusals.h"
#include "sandbox/compartment/region_area.h"

namespace dunebox::compartment {
namespace {

using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;
using hostcalls::Window;
using memory::Protection;
using memory::Vma;

constexpr Window kWindow = Window::Embedded(0);
constexpr std::uint64_t kArenaBytes = std::uint64_t{64} << 20;

dune::Range Pages(const GuestRange& range) { return {range.start.value, range.size()}; }

dune::Rights RightsOf(Protection protection) {
  if (!protection.any()) return dune::Rights::kNone;
  return static_cast<dune::Rights>(1 | (protection.write ? 2 : 0) | (protection.execute ? 4 : 0));
}

bool Allows(Protection protection, PagedSpace::Access access) {
  switch (access) {
    case PagedSpace::Access::kRead:
      return protection.any();
    case PagedSpace::Access::kWrite:
      return protection.write;
    case PagedSpace::Access::kExecute:
      return protection.execute;
  }
  return false;
}

dune::Access AccessTo(PagedSpace::Access access) {
  switch (access) {
    case PagedSpace::Access::kWrite:
      return dune::Access::kWrite;
    case PagedSpace::Access::kExecute:
      return dune::Access::kExecute;
    case PagedSpace::Access::kRead:
      break;
  }
  return dune::Access::kRead;
}

bool IsPrivateAnonymous(const Vma& vma) {
  return vma.sharing == memory::Sharing::kPrivate && !vma.file_backed;
}

bool IsInside(std::uint64_t address, std::uint64_t size) {
  return address >= kWindow.lowest && address < kWindow.limit && size <= kWindow.limit - address;
}

// Of whole pages; empty: it is not of this compartment's addresses.
GuestRange PageRange(std::uint64_t address, std::uint64_t length) {
  if (!IsPageAligned(address) || length == 0 || length > kWindow.limit) return {};
  if (!IsInside(address, PageUp(length))) return {};
  return {GuestVirt{address}, GuestVirt{address + PageUp(length)}};
}

GuestRange Cut(const GuestRange& range, const GuestRange& to) {
  return {std::max(range.start, to.start), std::min(range.end, to.end)};
}

SyscallResult FromAddress(GuestVirt address) {
  return SyscallResult(static_cast<std::int64_t>(address.value));
}

}  // namespace

absl::StatusOr<PagedOrigin> PagedOrigin::Of(std::shared_ptr<const memory::MemoryImage> image,
                                            const memory::Layout& layout) {
  absl::StatusOr<dune::PageTable> table = dune::PageTable::Create(dune::PageTable::Contents::kEmpty);
  if (!table.ok()) return table.status();
  absl::Status status;
  image->state().map.ForEach([&](const Vma& vma) {
    if (memory::IsSharedByHost(vma)) return true;
    image->contents().ForEachIn(vma.range, [&](const GuestRange& part) {
      if (!status.ok()) return;
      status = table->Map(Pages(part), image->At(part.start),
                          {.rights = RightsOf(vma.protection), .copy_on_write = true});
    });
    return status.ok();
  });
  if (!status.ok()) return status;
  return PagedOrigin{.image = std::move(image), .layout = layout, .table = *std::move(table)};
}

PagedSpace::PagedSpace(const PagedOrigin& origin, std::uint64_t memory_limit)
    : origin_(origin), memory_limit_(memory_limit) {}

absl::Status PagedSpace::Begin() {
  const std::lock_guard lock(mutex_);
  table_.reset();
  absl::StatusOr<dune::PageTable> clone = origin_.table.Clone(dune::PageTable::Sharing::kTemplate);
  if (!clone.ok()) return clone.status();
  table_ = *std::move(clone);
  changed_.reset();
  for (const auto& [region, access] : regions_) {
    if (absl::Status put = PutLocked(*region, access); !put.ok()) return put;
  }
  return arena_used_ == 0 ? absl::OkStatus() : PutArenaLocked();
}

const memory::VmaMap& PagedSpace::map() const {
  return changed_ ? changed_->map : origin_.image->state().map;
}

PagedSpace::Changed& PagedSpace::Change() {
  if (!changed_) {
    const memory::MemoryImage::State& state = origin_.image->state();
    changed_ = Changed{.map = state.map, .data = state.data, .heap_end = state.heap_end};
  }
  return *changed_;
}

// ---- pages --------------------------------------------------------------------------------------

absl::StatusOr<bool> PagedSpace::FillLocked(std::uint64_t address, Access access) const {
  if (!table_) return false;
  if (table_->implementation()->FindUserByte(address, AccessTo(access)).ok()) return true;
  const Vma* const vma = map().Find(GuestVirt{address});
  if (vma == nullptr || !Allows(vma->protection, access) || memory::IsSharedByHost(*vma)) return false;
  const absl::Status filled = table_->implementation()->MapFresh({PageDown(address), kPageSize},
                                                                 RightsOf(vma->protection));
  // It is there, and the table says that it may not be used so: never more than the map says.
  if (absl::IsAlreadyExists(filled)) return false;
  if (!filled.ok()) return filled;
  return true;
}

absl::StatusOr<bool> PagedSpace::Fill(std::uint64_t address, Access access) {
  if (!IsInside(address, 1)) return false;
  const std::lock_guard lock(mutex_);
  return FillLocked(address, access);
}

bool PagedSpace::With(std::uint64_t address, std::size_t size, Use use,
                      absl::FunctionRef<void(std::byte* bytes)> visit) const {
  if (!IsInside(address, size)) return false;
  const Access access = use == Use::kWrite ? Access::kWrite : Access::kRead;
  const std::lock_guard lock(mutex_);
  if (!table_) return false;
  absl::StatusOr<std::byte*> bytes =
      table_->implementation()->FindUserByte(address, AccessTo(access));
  if (!bytes.ok()) {
    const absl::StatusOr<bool> filled = FillLocked(address, access);
    if (!filled.ok() || !*filled) return false;
    bytes = table_->implementation()->FindUserByte(address, AccessTo(access));
    if (!bytes.ok()) return false;
  }
  visit(*bytes);
  return true;
}

absl::Status PagedSpace::PutLocked(const Region& region, RegionAccess access) {
  return table_->Map(
      Pages(RangeOf(region)), region.span().data(),
      {.rights = access == RegionAccess::kRead ? dune::Rights::kRead : dune::Rights::kReadWrite,
       .copy_on_write = access == RegionAccess::kCopyOnWrite});
}

absl::Status PagedSpace::Put(const Region& region, std::optional<RegionAccess> access) {
  const std::lock_guard lock(mutex_);
  if (!access) {
    regions_.erase(&region);
    return table_ ? table_->Unmap(Pages(RangeOf(region))) : absl::OkStatus();
  }
  // Of one that it had, what it has now is what the next life begins with, whatever becomes of it in this.
  if (const auto had = regions_.find(&region); had != regions_.end()) had->second = *access;
  if (table_) {
    if (absl::Status put = PutLocked(region, *access); !put.ok()) return put;
  }
  regions_[&region] = *access;
  return absl::OkStatus();
}

// ---- the host's memory --------------------------------------------------------------------------

absl::Status PagedSpace::ReserveArena() {
  const std::lock_guard lock(mutex_);
  if (!arena_.empty()) return absl::OkStatus();
  absl::Status none = absl::ResourceExhaustedError("no room for memory of the host's in a compartment");
  // Free in the image, too: it stays where it is when the compartment is recycled.
  GuestRange area{origin_.layout.mmap_bottom, origin_.layout.mmap_top};
  std::optional<GuestVirt> place = origin_.image->state().map.FindGapTopDown(area, kArenaBytes, kPageSize);
  while (place && map().Overlaps({*place, *place + kArenaBytes})) {
    area.end = *place;
    place = origin_.image->state().map.FindGapTopDown(area, kArenaBytes, kPageSize);
  }
  if (!place) return none;
  void* const host = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (host == MAP_FAILED) return none;
  arena_ = {*place, *place + kArenaBytes};
  arena_memory_ = std::shared_ptr<const void>(host, [host](const void*) { munmap(host, kArenaBytes); });
  arena_host_offset_ = reinterpret_cast<std::uint64_t>(host) - place->value;
  Change().map.Replace({.range = arena_,
                        .sharing = memory::Sharing::kShared,
                        .sealed = true,
                        .backing = memory::Named("[shared with the host]")});
  return absl::OkStatus();
}

absl::Status PagedSpace::PutArenaLocked() {
  const auto host = arena_host_offset_ + arena_.start.value;
  std::memset(reinterpret_cast<void*>(host), 0, arena_used_);
  Change().map.Replace({.range = arena_,
                        .sharing = memory::Sharing::kShared,
                        .sealed = true,
                        .backing = memory::Named("[shared with the host]")});
  return table_->Map({arena_.start.value, arena_used_}, reinterpret_cast<const void*>(host), {});
}

absl::StatusOr<GuestRange> PagedSpace::ExtendArena(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!table_) return absl::ResourceExhaustedError("the compartment has ended: there was no frame for its page table");
  if (bytes > arena_.size() - arena_used_) {
    return absl::ResourceExhaustedError("a compartment has 64 MiB of memory in common with the host");
  }
  const GuestVirt start = arena_.start + arena_used_;
  if (absl::Status mapped =
          table_->Map({start.value, bytes}, reinterpret_cast<const void*>(arena_host_offset_ + start.value), {});
      !mapped.ok()) {
    return mapped;
  }
  arena_used_ += bytes;
  return GuestRange{start, start + bytes};
}

// ---- system calls -------------------------------------------------------------------------------

// Private memory that it has filled is counted until it is unmapped, whatever its rights are.
bool PagedSpace::HasRoomLocked(const Vma& vma) {
  if (memory_limit_ == 0 || !vma.protection.any()) return true;
  const memory::RangeSet& data = Change().data;
  const bool fits = data.size() - data.SizeIn(vma.range) + vma.range.size() <= memory_limit_;
  if (!fits) ++memory::refusals;
  return fits;
}

void PagedSpace::EnterLocked(Vma vma) {
  Changed& changed = Change();
  if (vma.protection.any()) changed.data.Add(vma.range);
  changed.map.Replace(std::move(vma));
}

SyscallResult PagedSpace::MapLocked(const GuestRange& range, Protection protection,
                                    std::shared_ptr<const memory::Backing> backing) {
  Vma vma{.range = range, .protection = protection, .backing = std::move(backing)};
  if (!HasRoomLocked(vma)) return Errno{ENOMEM};
  if (map().Overlaps(range)) {
    const SyscallResult gone = UnmapLocked(range);
    if (!gone.ok()) return gone;
  }
  EnterLocked(std::move(vma));
  return FromAddress(range.start);
}

SyscallResult PagedSpace::Map(const memory::MapRequest& request) {
  if ((request.flags & MAP_ANONYMOUS) == 0) return Errno{ENODEV};
  const std::uint64_t length = PageUp(request.length);
  if (request.length == 0) return Errno{EINVAL};
  if (length < request.length || length > kWindow.limit) return Errno{ENOMEM};
  const bool keep = (request.flags & MAP_FIXED_NOREPLACE) != 0;
  const bool exact = keep || (request.flags & MAP_FIXED) != 0;
  const std::lock_guard lock(mutex_);
  GuestRange range{GuestVirt{request.address}, GuestVirt{request.address + length}};
  if (exact) {
    if (!IsPageAligned(request.address)) return Errno{EINVAL};
    if (request.address < kWindow.lowest) return Errno{EPERM};
    if (!IsInside(request.address, length)) return Errno{ENOMEM};
    if (keep && map().Overlaps(range)) return Errno{EEXIST};
  } else {
    const auto place = map().FindGapTopDown({origin_.layout.mmap_bottom, origin_.layout.mmap_top},
                                            length, kPageSize);
    if (!place) return Errno{ENOMEM};
    range = {*place, *place + length};
  }
  return MapLocked(range, Protection::FromProt(request.prot), nullptr);
}

SyscallResult PagedSpace::UnmapLocked(const GuestRange& range) {
  if (map().AnySealed(range)) return Errno{EPERM};
  if (!map().Overlaps(range)) return kSuccess;
  if (!table_->Unmap(Pages(range)).ok()) return Errno{ENOMEM};
  Changed& changed = Change();
  changed.map.Erase(range);
  changed.data.Remove(range);
  return kSuccess;
}

SyscallResult PagedSpace::Unmap(std::uint64_t address, std::uint64_t length) {
  const GuestRange range = PageRange(address, length);
  if (range.empty()) return Errno{EINVAL};
  const std::lock_guard lock(mutex_);
  return UnmapLocked(range);
}

absl::Status PagedSpace::ProtectPages(const GuestRange& range, Protection protection) {
  std::vector<dune::Range> present;
  absl::Status status = table_->Visit(Pages(range), [&](const dune::Mapping& mapping) {
    if (!present.empty() && present.back().end() == mapping.page.begin) {
      present.back().size += mapping.page.size;
    } else {
      present.push_back(mapping.page);
    }
  });
  for (const dune::Range& part : present) {
    if (status.ok()) status = table_->Protect(part, RightsOf(protection));
  }
  return status;
}

SyscallResult PagedSpace::Protect(std::uint64_t address, std::uint64_t length, int prot) {
  if (!IsPageAligned(address) || (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0) return Errno{EINVAL};
  if (length == 0) return kSuccess;
  const GuestRange range = PageRange(address, length);
  if (range.empty()) return Errno{ENOMEM};
  const Protection wanted = Protection::FromProt(prot);
  const std::lock_guard lock(mutex_);
  if (map().AnySealed(range)) return Errno{EPERM};
  if (!map().Covers(range)) return Errno{ENOMEM};
  std::vector<Vma> parts;
  map().ForEachIn(range, [&](const Vma& vma) {
    Vma part = vma;
    part.range = Cut(vma.range, range);
    part.protection = wanted;
    if (part.file_backed) part.offset += part.range.start - vma.range.start;
    parts.push_back(std::move(part));
    return true;
  });
  for (const Vma& part : parts) {
    if (!HasRoomLocked(part)) return Errno{ENOMEM};
  }
  if (!ProtectPages(range, wanted).ok()) return Errno{ENOMEM};
  for (Vma& part : parts) EnterLocked(std::move(part));
  return kSuccess;
}

// In place: the C library copies by itself what cannot be moved.
SyscallResult PagedSpace::Remap(const memory::RemapRequest& request) {
  const GuestRange old = PageRange(request.old_address, request.old_length);
  const std::uint64_t length = PageUp(request.new_length);
  if (old.empty() || request.new_length == 0 || length < request.new_length ||
      (request.flags & ~MREMAP_MAYMOVE) != 0) {
    return Errno{EINVAL};
  }
  const std::lock_guard lock(mutex_);
  const Vma* const vma = map().Find(old.start);
  if (vma == nullptr || vma->range.end < old.end) return Errno{EFAULT};
  if (vma->sealed || !IsPrivateAnonymous(*vma)) return Errno{EPERM};
  if (length <= old.size()) {
    const GuestRange tail{old.start + length, old.end};
    const SyscallResult cut = tail.empty() ? kSuccess : UnmapLocked(tail);
    return cut.ok() ? FromAddress(old.start) : cut;
  }
  const GuestRange more{old.end, old.start + length};
  if (!IsInside(old.start.value, length) || map().Overlaps(more)) return Errno{ENOMEM};
  const SyscallResult grown = MapLocked(more, vma->protection, vma->backing);
  return grown.ok() ? FromAddress(old.start) : grown;
}

SyscallResult PagedSpace::Advise(std::uint64_t address, std::uint64_t length, int advice) {
  if (length == 0) return kSuccess;
  const GuestRange range = PageRange(address, length);
  if (range.empty()) return Errno{EINVAL};
  const std::lock_guard lock(mutex_);
  if (!map().Covers(range)) return Errno{ENOMEM};
  if (map().AnySealed(range)) return Errno{EPERM};
  if (advice != MADV_DONTNEED && advice != MADV_FREE) return kSuccess;
  bool is_anonymous = true;
  map().ForEachIn(range, [&](const Vma& vma) { return is_anonymous = IsPrivateAnonymous(vma); });
  // The rest would have to become a file's again.
  if (!is_anonymous) return Errno{EINVAL};
  return table_->Unmap(Pages(range)).ok() ? kSuccess : SyscallResult(Errno{ENOMEM});
}

SyscallResult PagedSpace::Break(std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  const memory::MemoryImage::State& state = origin_.image->state();
  const GuestVirt end = changed_ ? changed_->heap_end : state.heap_end;
  const SyscallResult as_it_was = FromAddress(end);
  if (address < state.heap_start.value || address >= kWindow.limit) return as_it_was;
  const GuestVirt before{PageUp(end.value)}, after{PageUp(address)};
  if (after < before) {
    if (!UnmapLocked({after, before}).ok()) return as_it_was;
  } else if (after > before) {
    const GuestRange more{before, after};
    if (map().Overlaps(more) ||
        !MapLocked(more, {.read = true, .write = true}, memory::Named("[heap]")).ok()) {
      return as_it_was;
    }
  }
  Change().heap_end = GuestVirt{address};
  return FromAddress(GuestVirt{address});
}

void PagedSpace::LookAtMap(absl::FunctionRef<void(const memory::VmaMap& map)> look) const {
  const std::lock_guard lock(mutex_);
  look(map());
}

}  // namespace dunebox::compartment
