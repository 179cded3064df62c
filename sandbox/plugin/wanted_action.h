// What a host application wants of one signal that has our handler. It is read by handlers, which may have interrupted
// whoever changes it, and written by functions that handlers may call: so nobody waits and nothing is allocated.
//
//   WantedAction wanted;
//   wanted.Set(action);                       // one writer at a time
//   if (const auto action = wanted.Get()) ... // anywhere
#ifndef DUNEBOX_SANDBOX_PLUGIN_WANTED_ACTION_H_
#define DUNEBOX_SANDBOX_PLUGIN_WANTED_ACTION_H_

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>

#include "runtime/signals/action.h"

namespace dunebox::plugin {

class WantedAction {
 public:
  // Preconditions: no other call of Set or Clear is under way.
  void Set(const signals::KernelAction& action) { Write(std::bit_cast<Words>(action), kThere); }
  void Clear() { Write({}, kNothing); }

  std::optional<signals::KernelAction> Get() const {
    for (;;) {
      const std::uint64_t version = version_.load(std::memory_order_acquire);
      const Slot& slot = slots_[version % slots_.size()];
      Words words;
      for (std::size_t i = 0; i < words.size(); ++i) words[i] = slot.words[i].load(std::memory_order_relaxed);
      const std::uint64_t there = slot.there.load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      // A writer is in the other slot, or has been through both.
      if (version_.load(std::memory_order_relaxed) != version) continue;
      return there == kThere ? std::optional(std::bit_cast<signals::KernelAction>(words)) : std::nullopt;
    }
  }

 private:
  using Words = std::array<std::uint64_t, sizeof(signals::KernelAction) / sizeof(std::uint64_t)>;
  static constexpr std::uint64_t kNothing = 0, kThere = 1;
  struct Slot {
    std::array<std::atomic<std::uint64_t>, std::tuple_size_v<Words>> words{};
    std::atomic<std::uint64_t> there{kNothing};
  };

  void Write(const Words& words, std::uint64_t there) {
    const std::uint64_t next = version_.load(std::memory_order_relaxed) + 1;
    Slot& slot = slots_[next % slots_.size()];
    // Whoever still reads this slot has to see the version that made it the other one.
    std::atomic_thread_fence(std::memory_order_release);
    for (std::size_t i = 0; i < words.size(); ++i) slot.words[i].store(words[i], std::memory_order_relaxed);
    slot.there.store(there, std::memory_order_relaxed);
    version_.store(next, std::memory_order_release);
  }

  std::atomic<std::uint64_t> version_{0};  // its last bit says which slot holds
  std::array<Slot, 2> slots_{};
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_WANTED_ACTION_H_
