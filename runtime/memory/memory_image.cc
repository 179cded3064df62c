#include "runtime/memory/memory_image.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace dunebox::memory {
namespace {

// Neighbours whose host mappings have the same rights, and whether any of them has contents.
std::vector<MemoryImage::Segment> SegmentsOf(const VmaMap& map, const RangeSet& contents) {
  std::vector<MemoryImage::Segment> segments;
  map.ForEach([&](const Vma& vma) {
    if (IsSharedByHost(vma)) return true;
    const bool has_contents = contents.SizeIn(vma.range) != 0;
    const int host_prot = vma.protection.ToHostProt();
    // Nobody can look at it, and it is as the reservation is.
    if (host_prot == PROT_NONE && !has_contents) return true;
    if (!segments.empty() && segments.back().range.end == vma.range.start &&
        segments.back().host_prot == host_prot) {
      segments.back().range.end = vma.range.end;
      segments.back().is_file |= has_contents;
    } else {
      segments.push_back({.range = vma.range, .host_prot = host_prot, .is_file = has_contents});
    }
    return true;
  });
  return segments;
}

// Looking beyond a short gap costs less than looking twice.
std::vector<GuestRange> WritableOf(std::span<const MemoryImage::Segment> segments) {
  constexpr std::uint64_t kShortGap = std::uint64_t{1} << 20;
  std::vector<GuestRange> ranges;
  for (const MemoryImage::Segment& segment : segments) {
    if ((segment.host_prot & PROT_WRITE) == 0) continue;
    if (!ranges.empty() && segment.range.start - ranges.back().end <= kShortGap) {
      ranges.back().end = segment.range.end;
    } else {
      ranges.push_back(segment.range);
    }
  }
  return ranges;
}

}  // namespace

absl::Status MemoryImage::Writer::Write(GuestRange range, const std::byte* from) {
  for (std::uint64_t done = 0; done < range.size();) {
    const std::uint64_t at = range.start.value + done;
    const ssize_t written = pwrite(fd_, from + done, range.size() - done, static_cast<off_t>(at));
    if (written > 0) {
      const auto bytes = static_cast<std::uint64_t>(written);
      contents_.Add({GuestVirt{PageDown(at)}, GuestVirt{PageUp(at + bytes)}});
      done += bytes;
    } else if (written < 0 && errno == EFAULT) {
      done = PageDown(done) + kPageSize;
    } else if (written == 0 || errno != EINTR) {
      return absl::ResourceExhaustedError("no memory for an image of the sandbox's");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const MemoryImage>> MemoryImage::Make(
    State state, std::uint64_t limit, absl::FunctionRef<absl::Status(Writer&)> write,
    std::optional<int> fd) {
  RangeSet contents;
  const auto fill = [&](int file) {
    Writer writer(file, contents);
    return write(writer);
  };
  absl::StatusOr<hostcalls::SealedFile> file =
      fd ? hostcalls::SealedFile::Seal(*fd, fill)
         : hostcalls::SealedFile::Create("dunebox-image", limit, fill);
  if (!file.ok()) return file.status();
  return Of(std::move(state), limit, *std::move(file), std::move(contents));
}

absl::StatusOr<std::shared_ptr<const MemoryImage>> MemoryImage::Of(State state, std::uint64_t limit,
                                                                   hostcalls::SealedFile file,
                                                                   RangeSet contents) {
  const std::optional<int> fd = file.Get();
  void* const bytes =
      fd ? mmap(nullptr, limit, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, *fd, 0) : MAP_FAILED;
  if (bytes == MAP_FAILED) {
    return absl::ResourceExhaustedError("no addresses for an image of the sandbox's");
  }
  return std::shared_ptr<const MemoryImage>(
      new MemoryImage(std::move(state), limit, std::move(file), std::move(contents),
                      static_cast<const std::byte*>(bytes)));
}

MemoryImage::MemoryImage(State state, std::uint64_t limit, hostcalls::SealedFile file,
                         RangeSet contents, const std::byte* bytes)
    : state_(std::move(state)),
      limit_(limit),
      file_(std::move(file)),
      contents_(std::move(contents)),
      bytes_(bytes),
      segments_(SegmentsOf(state_.map, contents_)),
      writable_(WritableOf(segments_)) {}

MemoryImage::~MemoryImage() { munmap(const_cast<std::byte*>(bytes_), limit_); }

std::span<const MemoryImage::Segment>::iterator MemoryImage::SegmentFrom(GuestVirt address) const {
  const std::span<const Segment> all = segments_;
  return std::ranges::partition_point(
      all, [&](const Segment& segment) { return segment.range.end <= address; });
}

const MemoryImage::Segment* MemoryImage::SegmentAt(GuestVirt address) const {
  const auto found = SegmentFrom(address);
  const bool is_there = found != segments().end() && found->range.Contains(address);
  return is_there ? &*found : nullptr;
}

}  // namespace dunebox::memory
