// Memory that is written from its start on. The kernel is asked for some pages of it at a time, which takes much less
// than a page fault for each of them; where it does not know that request, there are the faults.
//
//   GrowingMemory code(start, size);
//   code.Reach(end);  // everything below is about to be written
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_GROWING_MEMORY_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_GROWING_MEMORY_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>

namespace dunebox::jit {

class GrowingMemory {
 public:
  GrowingMemory() = default;
  // `start` is a page's.
  GrowingMemory(void* start, std::size_t size)
      : start_(static_cast<std::byte*>(start)), size_(size) {}

  void Reach(std::size_t end) {
    if (end > asked_) [[unlikely]] Ask(end);
  }
  // All of it has been given back.
  void Restart() { asked_ = 0; }

  // From `start` on, whose pages are about to be written, all of them.
  static void Populate(void* start, std::size_t size) {
    constexpr int kPopulateWrite = 23;  // [linux] MADV_POPULATE_WRITE, from 5.14
    madvise(start, size, kPopulateWrite);
  }

 private:
  void Ask(std::size_t end) {
    constexpr std::size_t kStep = std::size_t{32} << 10;
    const std::size_t from = asked_;
    asked_ = std::min((end + kStep - 1) / kStep * kStep, size_);
    Populate(start_ + from, asked_ - from);
  }

  std::byte* start_ = nullptr;
  std::size_t size_ = 0;
  std::size_t asked_ = 0;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_GROWING_MEMORY_H_
