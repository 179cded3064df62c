// Guests of sandboxes that are gone, each as a clone of one snapshot begins: for the clones that are made next. To undo
// what a guest has done takes a fraction of the time of making one, which is mostly the kernel's for its mappings. A
// few are kept, with what is theirs in memory: so many as are alive at once where each clone serves one request.
//
//   if (guest->BeginAgain(snapshot)) spares.Put(std::move(guest));
//   std::unique_ptr<Guest> guest = spares.Take();    // null: there is none
#ifndef DUNEBOX_SANDBOX_PLUGIN_SPARE_GUESTS_H_
#define DUNEBOX_SANDBOX_PLUGIN_SPARE_GUESTS_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "sandbox/plugin/guest.h"

namespace dunebox::plugin {

class SpareGuests {
 public:
  static constexpr std::size_t kMost = 16;

  bool has_room() const {
    const std::lock_guard lock(mutex_);
    return guests_.size() < kMost;
  }
  // One too many is destroyed.
  void Put(std::unique_ptr<Guest> guest) {
    const std::lock_guard lock(mutex_);
    if (guests_.size() < kMost) guests_.push_back(std::move(guest));
  }
  std::unique_ptr<Guest> Take() {
    const std::lock_guard lock(mutex_);
    if (guests_.empty()) return nullptr;
    std::unique_ptr<Guest> guest = std::move(guests_.back());
    guests_.pop_back();
    return guest;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Guest>> guests_;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_SPARE_GUESTS_H_
