// The guest of a sandbox, in whose place a reset may put another one while somebody uses it: callbacks of threads that
// the plugin has started, and threads of the host's that copy, allocate or ask something. Who takes a guest away
// waits for them before it destroys it. There are two at most: the one that counts, and the one before it, or after.
//
//   const CurrentGuest::Use guest(current);      // it stays where it is as long as this lives
//   guest->Read(from, to);
//
//   current.Replace(std::move(fresh));           // of a reset, of which there is one at a time
//   if (!status.ok()) current.TakeBack();
//   current.DropOther();
#ifndef DUNEBOX_SANDBOX_PLUGIN_CURRENT_GUEST_H_
#define DUNEBOX_SANDBOX_PLUGIN_CURRENT_GUEST_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include "sandbox/plugin/guest.h"

namespace dunebox::plugin {

class CurrentGuest {
 private:
  struct Place {
    std::unique_ptr<Guest> guest;
    std::atomic<unsigned> users{0};
  };

 public:
  // For who knows that no reset comes between, as calls do.
  Guest* get() const { return guest_.load(std::memory_order_acquire); }

  class Use {
   public:
    explicit Use(CurrentGuest& current) {
      for (;;) {
        const std::size_t index = current.index_.load();
        place_ = &current.places_[index];
        place_->users.fetch_add(1);
        // Else it is none that anybody waits for.
        if (current.index_.load() == index) return;
        Leave();
      }
    }
    ~Use() { Leave(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    Guest* operator->() const { return place_->guest.get(); }
    Guest& operator*() const { return *place_->guest; }

   private:
    void Leave() {
      if (place_->users.fetch_sub(1) == 1) place_->users.notify_all();
    }

    Place* place_;
  };

  // The first, when nobody uses it yet.
  void Begin(std::unique_ptr<Guest> guest) { Put(index_.load(), std::move(guest)); }
  // The same at the end.
  std::unique_ptr<Guest> Take() { return std::move(places_[index_.load()].guest); }

  // The one before stays as the other one.
  void Replace(std::unique_ptr<Guest> guest) {
    const std::size_t index = 1 - index_.load();
    Put(index, std::move(guest));
    index_.store(index);
  }
  // The other one counts again.
  void TakeBack() {
    const std::size_t index = 1 - index_.load();
    guest_.store(places_[index].guest.get(), std::memory_order_release);
    index_.store(index);
  }
  // Ends the other one, if there is one.
  void DropOther() {
    Place& other = places_[1 - index_.load()];
    if (other.guest == nullptr) return;
    other.guest->EndNow();
    while (const unsigned users = other.users.load()) other.users.wait(users);
    other.guest.reset();
  }

 private:
  void Put(std::size_t index, std::unique_ptr<Guest> guest) {
    places_[index].guest = std::move(guest);
    guest_.store(places_[index].guest.get(), std::memory_order_release);
  }

  std::array<Place, 2> places_;
  std::atomic<std::size_t> index_{0};
  std::atomic<Guest*> guest_{nullptr};  // of that place
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_CURRENT_GUEST_H_
