// Memory in a sandbox that the host owns: both sides use the same bytes, nothing is copied. The plugin can
// neither unmap it nor protect it, so the host's span stays good; what is in it the plugin may change at any
// moment, so what is to be relied upon has to be copied first.
//
//   absl::StatusOr<Memory<unsigned char>> pixels = sandbox.Allocate<unsigned char>(64 * 1024);
//   absl::StatusOr<Tainted<int>> rows = decode(*pixels, 64 * 1024);
//   const unsigned char first = pixels->span()[0];
#ifndef DUNEBOX_SANDBOX_MEMORY_H_
#define DUNEBOX_SANDBOX_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "dunebox/tainted.h"

namespace dunebox {

namespace plugin {
class Arena;
}

namespace internal {

// Freed when it goes. May outlive its sandbox, and a reset without a snapshot, after which the plugin does not
// see it any more.
class Block {
 public:
  Block(std::shared_ptr<plugin::Arena> arena, std::uint64_t address, std::size_t size)
      : arena_(std::move(arena)), address_(address), size_(size) {}
  Block(Block&& other) noexcept = default;
  Block& operator=(Block&& other) noexcept;
  ~Block();

  std::byte* host() const;
  std::uint64_t address() const { return address_; }

 private:
  std::shared_ptr<plugin::Arena> arena_;  // null: moved from
  std::uint64_t address_;
  std::size_t size_;
};

}  // namespace internal

template <typename T>
class Memory {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 64);

 public:
  Memory(internal::Block block, std::size_t count) : block_(std::move(block)), count_(count) {}

  std::span<T> span() const { return {reinterpret_cast<T*>(block_.host()), count_}; }
  TaintedPtr<T> guest() const { return TaintedPtr<T>(block_.address()); }
  std::size_t size() const { return count_; }
  // For passing it.
  template <typename U>
  requires(std::is_convertible_v<T*, U*>)
  operator TaintedPtr<U>() const {  // NOLINT
    return guest();
  }

 private:
  internal::Block block_;
  std::size_t count_;
};

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_MEMORY_H_
