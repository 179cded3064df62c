// The memory of a guest at one moment, to begin with again and again: its map as values, and its bytes in a
// sealed file that every address space with this image maps copy-on-write. Nothing of it changes.
//
// The file looks like the window: a byte's place in it is its guest address, so neighbours of the same rights
// are one mapping whatever they were before, and pages of zeros are holes. What has no byte but zero
// far and wide is anonymous memory.
//
//   absl::StatusOr<std::shared_ptr<const MemoryImage>> image = MemoryImage::Make(state, limit, write);
//   absl::Status begun = space.AdoptImage(*image);
#ifndef DUNEBOX_RUNTIME_MEMORY_MEMORY_IMAGE_H_
#define DUNEBOX_RUNTIME_MEMORY_MEMORY_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/memory/sealed_file.h"
#include "runtime/memory/range_set.h"
#include "runtime/memory/vma_map.h"

namespace dunebox::memory {

class MemoryImage {
 public:
  // What an address space knows of itself.
  struct State {
    VmaMap map;
    GuestVirt heap_start, heap_end;
    RangeSet data, touchable;  // as AddressSpace counts them
  };

  // Receives the bytes. Whole pages that are all zeros need not be written.
  class Writer {
   public:
    // From memory of this process that may fault: pages that are not there (a mapping beyond the end of its
    // file) stay zeros. `range` consists of whole pages.
    absl::Status Write(GuestRange range, const std::byte* from);

   private:
    friend class MemoryImage;
    Writer(int fd, RangeSet& contents) : fd_(fd), contents_(contents) {}
    const int fd_;
    RangeSet& contents_;
  };
  // All addresses are below `limit`. In a file of `fd`, which is owned from then on, where this process
  // can make none (hostcalls::SealedFile::MakeUnsealed).
  static absl::StatusOr<std::shared_ptr<const MemoryImage>> Make(
      State state, std::uint64_t limit, absl::FunctionRef<absl::Status(Writer&)> write,
      std::optional<int> fd = std::nullopt);
  // Of a file that another process has filled so.
  static absl::StatusOr<std::shared_ptr<const MemoryImage>> Of(State state, std::uint64_t limit,
                                                               hostcalls::SealedFile file,
                                                               RangeSet contents);
  ~MemoryImage();
  MemoryImage(const MemoryImage&) = delete;
  MemoryImage& operator=(const MemoryImage&) = delete;

  const State& state() const { return state_; }
  const hostcalls::SealedFile& file() const { return file_; }
  // What is not only zeros.
  const RangeSet& contents() const { return contents_; }
  // At a guest address, for reading; what is not in contents() is zeros.
  const std::byte* At(GuestVirt address) const { return bytes_ + address.value; }

  // What the host maps: ascending, disjoint. Memory that it shares with others (IsSharedByHost) is not in them,
  // even if it has contents.
  struct Segment {
    GuestRange range;
    int host_prot;
    bool is_file;  // otherwise anonymous
  };
  std::span<const Segment> segments() const { return segments_; }
  // What can be written to without a change of rights, in as few stretches as it is cheap to look at.
  std::span<const GuestRange> writable() const { return writable_; }
  // The one that contains the address; null: nothing is mapped there, or nobody may access it.
  const Segment* SegmentAt(GuestVirt address) const;
  // The first that ends behind the address.
  std::span<const Segment>::iterator SegmentFrom(GuestVirt address) const;

 private:
  MemoryImage(State state, std::uint64_t limit, hostcalls::SealedFile file, RangeSet contents,
              const std::byte* bytes);

  const State state_;
  const std::uint64_t limit_;
  const hostcalls::SealedFile file_;
  const RangeSet contents_;
  const std::byte* const bytes_;
  std::vector<Segment> segments_;
  std::vector<GuestRange> writable_;
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_MEMORY_IMAGE_H_
