// When did a descriptor number last come to mean something else? For those who look at what a
// number means and then use it.
//
// Counts what begins and ends, a few numbers together, so an unchanged stamp around a piece of work
// says that the number meant the same throughout: a change that was under way when the work began
// gives no stamp, and one that began later another.
//
//   const std::optional<std::uint32_t> before = changes.Stamp(fd);
//   ...
//   if (before && changes.Stamp(fd) == before) ...   // the same file all the time
#ifndef DUNEBOX_HOSTCALLS_SERVICES_DESCRIPTOR_CHANGES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_DESCRIPTOR_CHANGES_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace dunebox::hostcalls {

class DescriptorChanges {
 public:
  // While one lives the numbers first to last may change.
  class Change {
   public:
    Change(DescriptorChanges& changes, unsigned first, unsigned last)
        : changes_(changes),
          first_(first),
          count_(last - first < kPlaces ? last - first + 1 : kPlaces) {
      ForEach([](Place& place) { place.begun.fetch_add(1); });
    }
    ~Change() {
      ForEach([](Place& place) { place.ended.fetch_add(1); });
    }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    template <typename Action>
    void ForEach(Action action) {
      for (unsigned i = 0; i < count_; ++i) action(changes_.places_[(first_ + i) % kPlaces]);
    }
    DescriptorChanges& changes_;
    const unsigned first_;
    const unsigned count_;
  };

  // In a forked child: those who were changing something are not there.
  void StartOver() {
    for (Place& place : places_) place.ended.store(place.begun.load());
  }

  // Nothing while a change is under way.
  std::optional<std::uint32_t> Stamp(int fd) const {
    const Place& place = places_[static_cast<unsigned>(fd) % kPlaces];
    const std::uint32_t ended = place.ended.load();
    if (place.begun.load() != ended) return std::nullopt;
    return ended;
  }

 private:
  static constexpr unsigned kPlaces = 64;
  struct Place {
    std::atomic<std::uint32_t> begun{0};
    std::atomic<std::uint32_t> ended{0};
  };
  std::array<Place, kPlaces> places_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_DESCRIPTOR_CHANGES_H_
