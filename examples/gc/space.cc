#include "examples/gc/space.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace gc {

std::unique_ptr<Space> Space::Create(std::size_t capacity) {
  capacity = (capacity + kBlockSize - 1) / kBlockSize * kBlockSize;
  void* const memory = mmap(nullptr, capacity, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  return std::unique_ptr<Space>(new Space(reinterpret_cast<std::uintptr_t>(memory), capacity));
}

Space::Space(std::uintptr_t begin, std::size_t capacity)
    : begin_(begin),
      capacity_(capacity),
      blocks_(capacity / kBlockSize, kFree),
      marks_(capacity / kGranule / 64) {}

Space::~Space() { munmap(reinterpret_cast<void*>(begin_), capacity_); }

Object* Space::Allocate(Shape shape) {
  const std::size_t size = (shape.size() + kGranule - 1) / kGranule * kGranule;
  if (size > kLargestCell) return AllocateLarge(shape);
  Cursor& cursor = cursors_[size / kGranule];
  for (;;) {
    for (; cursor.at + size <= cursor.end; cursor.at += size) {
      void* const cell = reinterpret_cast<void*>(cursor.at);
      if (IsMarked(static_cast<Object*>(cell))) continue;
      cursor.at += size;
      std::memset(cell, 0, size);
      return new (cell) Object(shape);
    }
    if (!NextBlock(size, cursor)) return nullptr;
  }
}

bool Space::NextBlock(std::size_t size, Cursor& cursor) {
  std::vector<std::size_t>& blocks = blocks_of_[size / kGranule];
  if (cursor.next == blocks.size()) {
    const std::size_t block = FindFree(1);
    if (block == blocks_.size()) return false;
    blocks_[block] = static_cast<std::uint32_t>(size);
    blocks.push_back(block);
  }
  const std::size_t block = blocks[cursor.next++];
  cursor.at = BlockAddress(block);
  cursor.end = BlockAddress(block + 1);
  return true;
}

Object* Space::AllocateLarge(Shape shape) {
  const std::size_t count = (shape.size() + kBlockSize - 1) / kBlockSize;
  const std::size_t block = FindFree(count);
  if (block == blocks_.size()) return nullptr;
  std::fill_n(blocks_.begin() + static_cast<std::ptrdiff_t>(block), count, kInside);
  blocks_[block] = kLarge;
  void* const memory = reinterpret_cast<void*>(BlockAddress(block));
  std::memset(memory, 0, shape.size());
  return new (memory) Object(shape);
}

std::size_t Space::FindFree(std::size_t count) {
  while (first_free_ < blocks_.size() && blocks_[first_free_] != kFree) ++first_free_;
  std::size_t run = 0;
  for (std::size_t block = first_free_; block < blocks_.size(); ++block) {
    run = blocks_[block] == kFree ? run + 1 : 0;
    if (run < count) continue;
    top_ = std::max(top_, block + 1);
    return block + 1 - count;
  }
  return blocks_.size();
}

bool Space::HasMarks(std::size_t block) const {
  constexpr std::size_t kWords = kBlockSize / kGranule / 64;
  const std::uint64_t* const first = &marks_[block * kWords];
  return std::any_of(first, first + kWords, [](std::uint64_t word) { return word != 0; });
}

void Space::Sweep() {
  used_ = 0;
  first_free_ = 0;
  for (std::vector<std::size_t>& blocks : blocks_of_) blocks.clear();
  cursors_.fill({});
  bool is_kept = false;
  for (std::size_t block = 0; block < top_; ++block) {
    if (blocks_[block] != kInside) is_kept = HasMarks(block);
    if (!is_kept) blocks_[block] = kFree;
    if (blocks_[block] == kFree) continue;
    used_ += kBlockSize;
    if (blocks_[block] > kInside) blocks_of_[blocks_[block] / kGranule].push_back(block);
  }
}

bool Space::IsCell(const Object* object) const {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  if (address < begin_ || address >= extent().end()) return false;
  const std::size_t block = (address - begin_) / kBlockSize;
  const std::size_t offset = address - BlockAddress(block);
  if (blocks_[block] == kLarge) return offset == 0;
  return blocks_[block] > kInside && offset % blocks_[block] == 0;
}

}  // namespace gc
