// Address spaces as copy-on-write views of an image. What is behind the guest's memory then differs from what
// the map says: private anonymous memory and files of the guest's are both private mappings of the image.
// It shows where the kernel would go back to what is behind: in MADV_DONTNEED.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/memory/address_space.h"
#include "runtime/memory/written_pages.h"

namespace dunebox::memory {

using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;

namespace {

// So many pages get their contents back; what is more is given up, and read again when it is touched. Copying
// one takes a third of the time of the fault that brings it back.
constexpr std::uint64_t kHotPages = 1024;
// Where nobody may need them again soon.
constexpr std::uint64_t kIdleHotPages = 64;

bool IsZero(const std::byte* page) {
  static constexpr std::array<std::byte, kPageSize> kZeros{};
  return std::memcmp(page, kZeros.data(), kPageSize) == 0;
}

bool IsPrivateAnonymous(const Vma& vma) {
  return vma.sharing == Sharing::kPrivate && !vma.file_backed;
}

GuestRange Cut(const GuestRange& range, const GuestRange& to) {
  return {std::max(range.start, to.start), std::min(range.end, to.end)};
}

// Private anonymous memory whose contents the image has no more is a mapping of its own on the host. So it is in the
// map then, which is what a sandbox's mappings are counted by: as if its file could be written.
Vma GivenUp(const Vma& vma, const GuestRange& part) {
  Backing backing = vma.backing != nullptr ? *vma.backing : Backing{};
  backing.writable = true;
  Vma result = vma;
  result.range = part;
  result.backing = std::make_shared<const Backing>(std::move(backing));
  return result;
}

absl::Status NoMapping() {
  return absl::ResourceExhaustedError(
      absl::ErrnoToStatus(errno, "cannot map a sandbox's image").message());
}

}  // namespace

// ---- making one ---------------------------------------------------------------------------------

// Pages that may have something other than zeros.
RangeSet AddressSpace::ContentsLocked() const {
  RangeSet contents;
  auto* const window = reinterpret_cast<std::byte*>(memory_.window().base);
  map_.ForEach([&](const Vma& vma) {
    if (IsSharedByHost(vma)) return true;
    RangeSet raw;  // as the guest mapped it, not by way of the old image
    raw.Add(vma.range);
    if (image_ != nullptr) {
      raw = {};
      changed_.ForEachIn(vma.range, [&](const GuestRange& part) { raw.Add(part); });
      image_->contents().ForEachIn(vma.range, [&](const GuestRange& part) {
        if (raw.SizeIn(part) == 0) return contents.Add(part);
        for (GuestVirt page = part.start; page < part.end; page = page + kPageSize) {
          if (raw.SizeIn({page, page + kPageSize}) == 0) contents.Add({page, page + kPageSize});
        }
      });
    }
    if (!IsPrivateAnonymous(vma)) raw.ForEach([&](const GuestRange& part) { contents.Add(part); });
    return true;
  });
  const auto add = [&](std::span<std::byte> pages) {
    const GuestVirt start{static_cast<std::uint64_t>(pages.data() - window)};
    contents.Add({start, start + pages.size()});
  };
  const std::uint64_t lowest = memory_.window().lowest;
  const absl::Status looked =
      ForEachWritten({window + lowest, memory_.window().limit - lowest}, add);
  // Then everything that is mapped is looked at.
  if (!looked.ok()) {
    map_.ForEach([&](const Vma& vma) {
      if (!IsSharedByHost(vma)) contents.Add(vma.range);
      return true;
    });
  }
  return contents;
}

absl::Status AddressSpace::CopyLocked(MemoryImage::Writer& writer) const {
  const RangeSet contents = ContentsLocked();
  const auto* const window = reinterpret_cast<const std::byte*>(memory_.window().base);
  absl::Status status = absl::OkStatus();
  map_.ForEach([&](const Vma& vma) {
    contents.ForEachIn(vma.range, [&](const GuestRange& part) {
      if (!status.ok()) return;
      std::byte* const start = const_cast<std::byte*>(window) + part.start.value;
      // Nobody runs: it may be read for a moment.
      const bool is_shut = vma.protection.ToHostProt() == PROT_NONE;
      if (is_shut && mprotect(start, part.size(), PROT_READ) != 0) {
        status = NoMapping();
        return;
      }
      if (!IsPrivateAnonymous(vma)) {
        status = writer.Write(part, start);  // it may end within the page that it is in
      } else {
        for (GuestVirt at = part.start; status.ok() && at < part.end;) {
          GuestVirt end = at;
          while (end < part.end && !IsZero(window + end.value)) end = end + kPageSize;
          if (end > at) status = writer.Write({at, end}, window + at.value);
          at = std::max(end, at + kPageSize);
        }
      }
      if (is_shut) mprotect(start, part.size(), PROT_NONE);
    });
    return status.ok();
  });
  return status;
}

absl::StatusOr<std::shared_ptr<const MemoryImage>> AddressSpace::TakeImage(
    std::optional<int> fd) {
  const std::unique_lock lock(mutex_);
  absl::StatusOr<std::shared_ptr<const MemoryImage>> image = MemoryImage::Make(
      {.map = map_,
       .heap_start = heap_start_,
       .heap_end = heap_end_,
       .data = data_,
       .touchable = touchable_},
      memory_.window().limit, [&](MemoryImage::Writer& writer) { return CopyLocked(writer); }, fd);
  if (!image.ok()) return image.status();
  absl::Status mapped =
      MapSegmentsLocked(**image, {GuestVirt{0}, GuestVirt{memory_.window().limit}});
  if (!mapped.ok()) return absl::InternalError(mapped.message());
  image_ = *image;
  changed_ = for_host_ = {};
  return image;
}

// ---- views --------------------------------------------------------------------------------------

// In the part of the range that the image has something in; the rest stays as it is.
absl::Status AddressSpace::MapSegmentsLocked(const MemoryImage& image,
                                             const GuestRange& range) const {
  const std::optional<int> fd = image.file().Get();
  if (!fd) return absl::FailedPreconditionError("the application has closed a sandbox's image");
  const auto all = image.segments();
  auto* const window = reinterpret_cast<std::byte*>(memory_.window().base);
  // Neighbours in the file are mapped with the rights of the first: to change some of them takes less than to map
  // them.
  for (auto segment = image.SegmentFrom(range.start);
       segment != all.end() && segment->range.start < range.end;) {
    const auto first = segment++;
    GuestRange run = Cut(first->range, range);
    for (; first->is_file && segment != all.end() && segment->is_file &&
           segment->range.start == run.end && run.end < range.end;
         ++segment) {
      run.end = Cut(segment->range, range).end;
    }
    const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (first->is_file ? 0 : MAP_ANONYMOUS);
    if (host_.Map(window + run.start.value, run.size(), first->host_prot, flags,
                  first->is_file ? *fd : -1,
                  first->is_file ? static_cast<off_t>(run.start.value) : 0) == MAP_FAILED) {
      return NoMapping();
    }
    for (auto other = first + 1; other < segment; ++other) {
      const GuestRange part = Cut(other->range, range);
      if (other->host_prot != first->host_prot &&
          mprotect(window + part.start.value, part.size(), other->host_prot) != 0) {
        return NoMapping();
      }
    }
  }
  return absl::OkStatus();
}

absl::Status AddressSpace::AdoptImage(std::shared_ptr<const MemoryImage> image) {
  const std::unique_lock lock(mutex_);
  const MemoryImage::State& state = image->state();
  absl::Status mapped =
      MapSegmentsLocked(*image, {GuestVirt{0}, GuestVirt{memory_.window().limit}});
  if (!mapped.ok()) return mapped;
  map_ = state.map;
  heap_start_ = state.heap_start;
  heap_end_ = state.heap_end;
  data_ = state.data;
  touchable_ = state.touchable;
  image_ = std::move(image);
  return absl::OkStatus();
}

std::shared_ptr<const MemoryImage> AddressSpace::image() const {
  const std::shared_lock lock(mutex_);
  return image_;
}

absl::Status AddressSpace::ReturnToImage(HostMemory host_memory) {
  const std::unique_lock lock(mutex_);
  if (image_ == nullptr) return absl::FailedPreconditionError("no image was taken");
  const bool goes = host_memory == HostMemory::kGoes;
  if (goes) {
    for_host_.ForEach([&](const GuestRange& range) { changed_.Add(range); });
    for_host_ = {};
    absl::Status emptied;
    backed_.ForEach([&](const GuestRange& range) {
      emptied.Update(BackLocked(range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1));
    });
    if (!emptied.ok()) return emptied;
    backed_ = {};
  }
  if (absl::Status undone = UndoChangesLocked(); !undone.ok()) return undone;
  heap_end_ = image_->state().heap_end;
  return UndoWritesLocked(goes ? kIdleHotPages : kHotPages);
}

absl::Status AddressSpace::UndoChangesLocked() {
  if (changed_.empty()) return absl::OkStatus();
  const MemoryImage::State& state = image_->state();
  auto* const window = reinterpret_cast<std::byte*>(memory_.window().base);
  absl::Status status = absl::OkStatus();
  changed_.ForEach([&](const GuestRange& range) {
    if (!status.ok()) return;
    if (observer_ != nullptr) observer_->ForgetMappings(range);
    if (!host_.Unmap(window + range.start.value, range.size())) {
      status = NoMapping();
      return;
    }
    status = MapSegmentsLocked(*image_, range);
    map_.Erase(range);
    state.map.ForEachIn(range, [&](const Vma& vma) {
      Vma part = vma;
      part.range = Cut(vma.range, range);
      if (part.file_backed) part.offset += part.range.start - vma.range.start;
      map_.Replace(std::move(part));
      return true;
    });
  });
  if (!status.ok()) return status;
  changed_ = {};
  data_ = state.data;
  touchable_ = state.touchable;
  return absl::OkStatus();
}

// What was mapped anew has no pages yet, and what has not changed can be written to only where the image says so.
absl::Status AddressSpace::UndoWritesLocked(std::uint64_t hot) const {
  auto* const window = reinterpret_cast<std::byte*>(memory_.window().base);
  std::vector<std::span<std::byte>> ranges;
  const auto add = [&](const GuestRange& range) {
    ranges.emplace_back(window + range.start.value, range.size());
  };
  for (const GuestRange& range : image_->writable()) add(range);
  for_host_.ForEach(add);
  return ForEachWrittenIn(ranges, [&](std::span<std::byte> pages) { UndoPages(pages, hot); });
}

void AddressSpace::UndoPages(std::span<std::byte> pages, std::uint64_t& hot) const {
  auto* const window = reinterpret_cast<std::byte*>(memory_.window().base);
  auto at = static_cast<std::uint64_t>(pages.data() - window);
  const std::uint64_t end = at + pages.size();
  while (at < end && hot > 0) {
    const MemoryImage::Segment* const segment = image_->SegmentAt(GuestVirt{at});
    if (segment == nullptr || (segment->host_prot & PROT_WRITE) == 0) break;
    const std::uint64_t stop = std::min({end, segment->range.end.value, at + hot * kPageSize});
    hot -= (stop - at) / kPageSize;
    for (; at < stop; at += kPageSize) {
      // Reading a hole would give it memory.
      const bool has = image_->contents().Contains({GuestVirt{at}, GuestVirt{at + kPageSize}});
      has ? std::memcpy(window + at, image_->At(GuestVirt{at}), kPageSize)
          : std::memset(window + at, 0, kPageSize);
    }
  }
  if (at < end) madvise(window + at, end - at, MADV_DONTNEED);
}

// ---- with a view --------------------------------------------------------------------------------

// Anonymous memory that is given up is zeros again, not what the image has there. MADV_FREE is the same, at once:
// mappings of files do not know it.
SyscallResult AddressSpace::DropLocked(const GuestRange& range) {
  if (map_.AnySealed(range)) return Errno{EPERM};
  if (!map_.Covers(range)) return Errno{ENOMEM};
  auto* const window = reinterpret_cast<std::byte*>(memory_.window().base);
  SyscallResult result = kSuccess;
  std::vector<Vma> given_up;
  map_.ForEachIn(range, [&](const Vma& vma) {
    const GuestRange part = Cut(vma.range, range);
    if (vma.protection.execute) Forget(part);
    // What was only given other rights since is the image's all the same.
    const bool is_given_up = vma.backing != nullptr && vma.backing->writable;
    if (IsPrivateAnonymous(vma) && image_->contents().SizeIn(part) != 0 && !is_given_up) {
      given_up.push_back(GivenUp(vma, part));
      if (host_.Map(window + part.start.value, part.size(), vma.protection.ToHostProt(),
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
        result = Errno{errno};
      }
    } else if (madvise(window + part.start.value, part.size(), MADV_DONTNEED) != 0) {
      result = Errno{errno};
    }
    return result.ok();
  });
  for (Vma& vma : given_up) {
    changed_.Add(vma.range);
    map_.Replace(std::move(vma));
  }
  return result;
}

std::optional<GuestVirt> AddressSpace::PlaceForHost(std::uint64_t length) const {
  GuestRange area{layout_.mmap_bottom, layout_.mmap_top};
  for (;;) {
    const std::optional<GuestVirt> place = map_.FindGapTopDown(area, length, kPageSize);
    if (!place || image_ == nullptr) return place;
    const Vma* const below = image_->state().map.FindFrom(*place);
    if (below == nullptr || below->range.start >= *place + length) return place;
    area.end = below->range.start;
  }
}

SyscallResult AddressSpace::MapForHost(std::uint64_t length, const std::string& name) {
  const std::unique_lock lock(mutex_);
  const std::optional<GuestVirt> place = PlaceForHost(PageUp(length));
  if (!place) return Errno{ENOMEM};
  const SyscallResult mapped = MapLocked({.address = place->value,
                                          .length = length,
                                          .prot = PROT_READ | PROT_WRITE,
                                          .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE},
                                         name);
  if (!mapped.ok()) return mapped;
  const GuestRange range{*place, *place + PageUp(length)};
  Vma sealed = *map_.Find(*place);
  sealed.range = range;
  sealed.sealed = true;
  map_.Replace(std::move(sealed));
  // It does not go when the image comes back: it is the host's.
  changed_.Remove(range);
  if (image_ != nullptr) for_host_.Add(range);
  return mapped;
}

}  // namespace dunebox::memory
