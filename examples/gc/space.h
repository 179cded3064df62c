// Memory for objects: blocks of 32 KiB, each cut into cells of one size, or in a row for one large object. What is known
// of a cell lies beside the blocks and not in them, so that marking and sweeping write to no page of objects: a cell
// without a mark is free once its object is not young any more. New objects are put beside old ones only where most of
// a block is free, for otherwise every page of old objects would be written to.
//
//   Object* object = space.Allocate(shape);          // null: no room
//   space.ForEachMarked(written, [](Object* old, Range part) { ... });
//   space.Sweep();                                    // what has no mark is free from here on
#ifndef DUNEBOX_EXAMPLES_GC_SPACE_H_
#define DUNEBOX_EXAMPLES_GC_SPACE_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dune/page_table.h"
#include "examples/gc/object.h"

namespace gc {

class Space {
 public:
  static constexpr std::size_t kBlockSize = 32 << 10;

  // Null: no such amount of addresses.
  static std::unique_ptr<Space> Create(std::size_t capacity);
  Space(const Space&) = delete;
  Space& operator=(const Space&) = delete;
  ~Space();

  // Its fields are null and zero. Null: no room.
  Object* Allocate(Shape shape);

  bool IsMarked(const Object* object) const { return (marks_[Word(object)] & Bit(object)) != 0; }
  void Mark(const Object* object) { marks_[Word(object)] |= Bit(object); }
  void ClearMarks() { std::fill(marks_.begin(), marks_.end(), 0); }

  // Calls visitor(Object*, dune::Range) for the marked objects that have a part in `range`, and the part.
  template <typename Visitor>
  void ForEachMarked(dune::Range range, Visitor visitor) const;

  void Sweep();
  // The blocks that marked objects are in, joined, and their size: after Sweep.
  const std::vector<dune::Range>& old() const { return old_; }
  std::size_t used() const { return used_; }

  // All blocks that were ever used.
  dune::Range extent() const { return {begin_, top_ * kBlockSize}; }
  // Whether an object could begin here: for verifying.
  bool IsCell(const Object* object) const;

 private:
  static constexpr std::size_t kGranule = 16;
  static constexpr std::size_t kLargestCell = 1 << 10;
  // Of blocks_: a cell's size, or one of these.
  static constexpr std::uint32_t kFree = 0;
  static constexpr std::uint32_t kLarge = 1;   // the first block of a large object
  static constexpr std::uint32_t kInside = 2;  // the others

  struct Cursor {
    std::uintptr_t at = 0;   // cells below were used, or looked at
    std::uintptr_t end = 0;  // of the block
    std::size_t next = 0;    // of this size's blocks
  };

  Space(std::uintptr_t begin, std::size_t capacity);
  std::size_t Granule(const void* address) const {
    return (reinterpret_cast<std::uintptr_t>(address) - begin_) / kGranule;
  }
  std::size_t Word(const void* address) const { return Granule(address) / 64; }
  std::uint64_t Bit(const void* address) const {
    return std::uint64_t{1} << Granule(address) % 64;
  }
  std::uintptr_t BlockAddress(std::size_t block) const { return begin_ + block * kBlockSize; }
  // Of what begins in these addresses of one block.
  template <typename Visitor>
  void ForEachMarkIn(std::uintptr_t from, std::uintptr_t to, Visitor visitor) const;
  Object* AllocateLarge(Shape shape);
  // `count` free blocks in a row; blocks_.size() where there are none.
  std::size_t FindFree(std::size_t count);
  bool NextBlock(std::size_t size, Cursor& cursor);
  // Marked objects whose cells begin in the block.
  std::size_t CountMarks(std::size_t block) const;

  const std::uintptr_t begin_;
  const std::size_t capacity_;
  std::size_t top_ = 0;         // blocks below were used
  std::size_t first_free_ = 0;  // no block below is free
  std::size_t used_ = 0;
  std::vector<dune::Range> old_;
  std::vector<std::uint32_t> blocks_;
  std::vector<std::uint64_t> marks_;
  std::array<Cursor, kLargestCell / kGranule + 1> cursors_;
  std::array<std::vector<std::size_t>, kLargestCell / kGranule + 1> blocks_of_;
};

// A word of marks at a time instead of each cell's bit.
template <typename Visitor>
void Space::ForEachMarkIn(std::uintptr_t from, std::uintptr_t to, Visitor visitor) const {
  const std::size_t first = (from - begin_ + kGranule - 1) / kGranule;
  const std::size_t last = (to - begin_ + kGranule - 1) / kGranule;
  for (std::size_t granule = first; granule < last; granule = (granule / 64 + 1) * 64) {
    std::uint64_t marks = marks_[granule / 64] >> granule % 64 << granule % 64;
    const std::size_t word = granule / 64 * 64;
    if (last - word < 64) marks &= (std::uint64_t{1} << (last - word)) - 1;
    for (; marks != 0; marks &= marks - 1) {
      const std::size_t marked = word + static_cast<std::size_t>(std::countr_zero(marks));
      visitor(reinterpret_cast<Object*>(begin_ + marked * kGranule));
    }
  }
}

template <typename Visitor>
void Space::ForEachMarked(dune::Range range, Visitor visitor) const {
  for (std::uintptr_t at = range.begin; at < range.end();) {
    std::size_t block = (at - begin_) / kBlockSize;
    const std::uintptr_t end = std::min(range.end(), BlockAddress(block + 1));
    const std::uint32_t size = blocks_[block];
    if (size == kLarge || size == kInside) {
      while (blocks_[block] == kInside) --block;
      auto* const object = reinterpret_cast<Object*>(BlockAddress(block));
      if (IsMarked(object)) visitor(object, dune::Range{at, end - at});
    } else if (size != kFree) {
      const std::uintptr_t offset = (at - BlockAddress(block)) % size;
      auto* const before = reinterpret_cast<Object*>(at - offset);
      if (offset != 0 && IsMarked(before)) visitor(before, dune::Range{at, end - at});
      ForEachMarkIn(at, end, [&](Object* object) { visitor(object, dune::Range{at, end - at}); });
    }
    at = end;
  }
}

}  // namespace gc

#endif  // DUNEBOX_EXAMPLES_GC_SPACE_H_
