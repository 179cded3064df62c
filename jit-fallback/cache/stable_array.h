// An array that grows at the end and never moves: readers without a lock see every element below
// the size they have read. Address space is reserved for all of it, memory comes as it is touched.
// Where none was to be had, is_reserved() is false and nothing else may be called.
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_STABLE_ARRAY_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_STABLE_ARRAY_H_

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "jit-fallback/cache/growing_memory.h"

namespace dunebox::jit {

template <typename T>
class StableArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit StableArray(std::uint32_t capacity) : capacity_(capacity) {
    void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    elements_ = static_cast<T*>(memory);
    memory_ = GrowingMemory(memory, bytes());
  }
  ~StableArray() {
    if (is_reserved()) munmap(elements_, bytes());
  }
  StableArray(const StableArray&) = delete;
  StableArray& operator=(const StableArray&) = delete;

  bool is_reserved() const { return elements_ != nullptr; }
  std::uint32_t size() const { return size_.load(std::memory_order_acquire); }
  std::uint32_t room() const { return capacity_ - size_.load(std::memory_order_relaxed); }
  T& operator[](std::uint32_t index) { return elements_[index]; }
  const T& operator[](std::uint32_t index) const { return elements_[index]; }

  // One writer at a time. Preconditions: room() > 0.
  std::uint32_t Append(const T& value) {
    const std::uint32_t index = size_.load(std::memory_order_relaxed);
    memory_.Reach((std::size_t{index} + 1) * sizeof(T));
    elements_[index] = value;
    size_.store(index + 1, std::memory_order_release);
    return index;
  }
  // Preconditions: there is room for all of them.
  void AppendAll(std::span<const T> values) {
    const std::uint32_t index = size_.load(std::memory_order_relaxed);
    memory_.Reach((std::size_t{index} + values.size()) * sizeof(T));
    std::ranges::copy(values, elements_ + index);
    size_.store(index + static_cast<std::uint32_t>(values.size()), std::memory_order_release);
  }
  void Clear() {
    size_.store(0, std::memory_order_release);
    madvise(elements_, bytes(), MADV_DONTNEED);
    memory_.Restart();
  }

 private:
  std::size_t bytes() const { return std::size_t{capacity_} * sizeof(T); }

  const std::uint32_t capacity_;
  std::atomic<std::uint32_t> size_{0};
  T* elements_ = nullptr;
  GrowingMemory memory_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_STABLE_ARRAY_H_
