#include "runtime/memory/range_set.h"

#include <algorithm>
#include <iterator>

namespace dunebox::memory {

void RangeSet::Add(const GuestRange& range) {
  if (range.empty()) return;
  std::uint64_t start = range.start.value, end = range.end.value;
  auto next = ends_.upper_bound(start);
  // What begins before and touches it becomes part of it, and what begins in it or at its end.
  if (next != ends_.begin() && std::prev(next)->second >= start) --next;
  while (next != ends_.end() && next->first <= end) {
    start = std::min(start, next->first);
    end = std::max(end, next->second);
    size_ -= next->second - next->first;
    next = ends_.erase(next);
  }
  ends_.emplace(start, end);
  size_ += end - start;
}

void RangeSet::Remove(const GuestRange& range) {
  const std::uint64_t start = range.start.value, end = range.end.value;
  auto next = ends_.upper_bound(start);
  if (next != ends_.begin() && std::prev(next)->second > start) --next;
  while (next != ends_.end() && next->first < end) {
    const auto [old_start, old_end] = *next;
    next = ends_.erase(next);
    size_ -= std::min(old_end, end) - std::max(old_start, start);
    if (old_start < start) ends_.emplace(old_start, start);
    if (old_end > end) ends_.emplace(end, old_end);
  }
}

std::uint64_t RangeSet::SizeIn(const GuestRange& range) const {
  const std::uint64_t start = range.start.value, end = range.end.value;
  std::uint64_t size = 0;
  auto next = ends_.upper_bound(start);
  if (next != ends_.begin() && std::prev(next)->second > start) --next;
  for (; next != ends_.end() && next->first < end; ++next) {
    size += std::min(next->second, end) - std::max(next->first, start);
  }
  return size;
}

std::optional<GuestVirt> RangeSet::FindGapTopDown(const GuestRange& bounds, std::uint64_t size,
                                                  std::uint64_t alignment) const {
  // The holes downwards from the top of the bounds.
  std::uint64_t hole_end = bounds.end.value;
  for (auto above = ends_.lower_bound(bounds.end.value);; --above) {
    const bool is_last = above == ends_.begin() || std::prev(above)->second <= bounds.start.value;
    const std::uint64_t hole_start = is_last ? bounds.start.value : std::prev(above)->second;
    if (hole_end > hole_start && hole_end - hole_start >= size) {
      const std::uint64_t start = (hole_end - size) & ~(alignment - 1);
      if (start >= hole_start) return GuestVirt{start};
    }
    if (is_last) return std::nullopt;
    hole_end = std::prev(above)->first;
  }
}

}  // namespace dunebox::memory
