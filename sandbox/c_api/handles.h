// The objects behind the opaque handles of dunebox.h. A handle's place is never given back to the
// allocator, and is used again only after some thousand others have been freed: so one that was
// destroyed is recognised by looking at it, without a list of those that live, and not by luck.
//
//   struct dunebox_memory : Place<Memory> {};
//   dunebox_memory* memory = Places<dunebox_memory>::Take(std::move(value));
//   if (Memory* value = ValueOf(memory)) ...      // null: NULL, or destroyed
//   bool was_alive = Places<dunebox_memory>::GiveBack(memory);
#ifndef DUNEBOX_SANDBOX_C_API_HANDLES_H_
#define DUNEBOX_SANDBOX_C_API_HANDLES_H_

#include <atomic>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace dunebox::c_api {

template <typename T>
struct Place {
  using Value = T;
  std::atomic<bool> is_alive{false};
  std::optional<T> value;
};

template <typename Handle>
typename Handle::Value* ValueOf(Handle* handle) {
  if (handle == nullptr || !handle->is_alive.load(std::memory_order_acquire)) return nullptr;
  return &*handle->value;
}
template <typename Handle>
const typename Handle::Value* ValueOf(const Handle* handle) {
  if (handle == nullptr || !handle->is_alive.load(std::memory_order_acquire)) return nullptr;
  return &*handle->value;
}

template <typename Handle>
class Places {
 public:
  static Handle* Take(typename Handle::Value value) {
    Handle* const handle = Self().Find();
    handle->value.emplace(std::move(value));
    handle->is_alive.store(true, std::memory_order_release);
    return handle;
  }

  // False: somebody has before.
  static bool GiveBack(Handle* handle) {
    if (!handle->is_alive.exchange(false, std::memory_order_acq_rel)) return false;
    handle->value.reset();
    Places& self = Self();
    const std::lock_guard lock(self.mutex_);
    self.freed_.push_back(handle);
    return true;
  }

 private:
  static constexpr std::size_t kRest = 4096;

  // Lives as long as the process: handles may be destroyed by destructors of static objects.
  static Places& Self() {
    static Places& places = *new Places;
    return places;
  }

  Handle* Find() {
    const std::lock_guard lock(mutex_);
    if (freed_.size() <= kRest) return &all_.emplace_back();
    Handle* const oldest = freed_.front();
    freed_.pop_front();
    return oldest;
  }

  std::mutex mutex_;
  std::deque<Handle> all_;     // never moves what is in it
  std::deque<Handle*> freed_;  // oldest first
};

}  // namespace dunebox::c_api

#endif  // DUNEBOX_SANDBOX_C_API_HANDLES_H_
