// A set of addresses as disjoint ranges, which knows its size. No lock, no system call.
//
//   RangeSet filled;
//   filled.Add({GuestVirt{0x1000}, GuestVirt{0x3000}});
//   filled.Remove({GuestVirt{0x1000}, GuestVirt{0x2000}});   // filled.size() == 0x1000
#ifndef DUNEBOX_RUNTIME_MEMORY_RANGE_SET_H_
#define DUNEBOX_RUNTIME_MEMORY_RANGE_SET_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

#include "hostcalls/memory/address.h"

namespace dunebox::memory {

class RangeSet {
 public:
  void Add(const GuestRange& range);
  void Remove(const GuestRange& range);
  std::uint64_t size() const { return size_; }
  // Of what is in `range`.
  std::uint64_t SizeIn(const GuestRange& range) const;
  bool empty() const { return ends_.empty(); }
  bool Contains(const GuestRange& range) const { return SizeIn(range) == range.size(); }
  // The highest place of `size` bytes inside `bounds`, at a multiple of `alignment`, that has
  // nothing of the set.
  std::optional<GuestVirt> FindGapTopDown(const GuestRange& bounds, std::uint64_t size,
                                          std::uint64_t alignment) const;
  bool operator==(const RangeSet&) const = default;

  // In ascending order.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [start, end] : ends_) visit(GuestRange{GuestVirt{start}, GuestVirt{end}});
  }
  // The same, cut to `range`.
  template <typename Visit>
  void ForEachIn(const GuestRange& range, Visit visit) const {
    auto next = ends_.upper_bound(range.start.value);
    if (next != ends_.begin() && std::prev(next)->second > range.start.value) --next;
    for (; next != ends_.end() && next->first < range.end.value; ++next) {
      visit(GuestRange{GuestVirt{std::max(next->first, range.start.value)},
                       GuestVirt{std::min(next->second, range.end.value)}});
    }
  }

 private:
  std::map<std::uint64_t, std::uint64_t> ends_;  // by start; no two touch
  std::uint64_t size_ = 0;
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_RANGE_SET_H_
