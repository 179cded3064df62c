// Where the kernel finds what the runtime has copied (paths, arrays of buffers, structures) in a
// call that names guest memory, too: such a call is made with the runtime's memory shut
// (hostcalls/dispatch/host_call.h).
//
// A Staging is one thread's, a few pages with the staging key, mapped when first needed. A
// StagingScope gives the room back when it ends; scopes of one thread are nested. Without
// protection keys there is nothing to shut: an object stays where it is.
//
//   StagingScope staged(caller.staging);
//   timespec* const timeout = staged.Place(copy);
//   HostCall(caller, SYS_futex, {word, FUTEX_WAIT, value, AsArgument(timeout)});
//   // What the kernel has written is in *timeout.
#ifndef DUNEBOX_HOSTCALLS_MEMORY_STAGING_H_
#define DUNEBOX_HOSTCALLS_MEMORY_STAGING_H_

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "hostcalls/memory/protection_keys.h"

namespace dunebox::hostcalls {

// Fresh pages, with the staging key where keys are in use.
class StagingPages {
 public:
  StagingPages() = default;
  // CHECK-fails when there is no memory, as the copy itself would have.
  explicit StagingPages(std::size_t size);
  ~StagingPages();
  StagingPages(StagingPages&& other) noexcept;
  StagingPages& operator=(StagingPages&& other) noexcept;

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

class Staging {
 public:
  // Room for most calls; a scope maps pages of its own for what does not fit.
  static constexpr std::size_t kSize = 64 * 1024;

 private:
  friend class StagingScope;
  StagingPages pages_;
  std::size_t used_ = 0;
};

class StagingScope {
 public:
  explicit StagingScope(Staging& staging) : staging_(staging), used_before_(staging.used_) {}
  ~StagingScope() { staging_.used_ = used_before_; }
  StagingScope(const StagingScope&) = delete;
  StagingScope& operator=(const StagingScope&) = delete;

  // The object, or a copy of it, where the kernel may read and write it in either view. Both live
  // as long as the scope.
  template <typename T>
  T* Place(T& object) {
    return PlaceAll(std::span(&object, 1)).data();
  }
  template <typename T>
  std::span<T> PlaceAll(std::span<T> objects) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (!KeysInUse() || objects.empty()) return objects;
    std::byte* const room = Take(objects.size_bytes());
    std::memcpy(room, objects.data(), objects.size_bytes());
    return {reinterpret_cast<T*>(room), objects.size()};
  }
  // Room with anything in it, aligned for every type.
  std::byte* Take(std::size_t size);

 private:
  Staging& staging_;
  const std::size_t used_before_;
  std::vector<StagingPages> larger_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_MEMORY_STAGING_H_
