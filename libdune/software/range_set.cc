#include "libdune/software/range_set.h"

#include <algorithm>
#include <iterator>

namespace dune::software {

void RangeSet::Add(Range range) {
  if (range.size == 0) return;
  std::vector<Range> joined;
  joined.reserve(ranges_.size() + 1);
  std::copy_if(ranges_.begin(), ranges_.end(), std::back_inserter(joined),
               [&](const Range& old) { return old.end() < range.begin; });
  const auto touching = std::find_if(ranges_.begin(), ranges_.end(), [&](const Range& old) {
    return old.end() >= range.begin;
  });
  auto next = touching;
  std::uintptr_t begin = range.begin;
  std::uintptr_t end = range.end();
  for (; next != ranges_.end() && next->begin <= end; ++next) {
    begin = std::min(begin, next->begin);
    end = std::max(end, next->end());
  }
  joined.push_back({begin, end - begin});
  joined.insert(joined.end(), next, ranges_.end());
  ranges_ = std::move(joined);
}

void RangeSet::Remove(Range range) {
  std::vector<Range> left;
  left.reserve(ranges_.size() + 1);
  for (const Range& old : ranges_) {
    if (old.end() <= range.begin || old.begin >= range.end()) {
      left.push_back(old);
      continue;
    }
    if (old.begin < range.begin) left.push_back({old.begin, range.begin - old.begin});
    if (old.end() > range.end()) left.push_back({range.end(), old.end() - range.end()});
  }
  ranges_ = std::move(left);
}

bool RangeSet::Covers(Range range) const {
  if (range.size == 0) return true;
  const auto after = std::upper_bound(
      ranges_.begin(), ranges_.end(), range.begin,
      [](std::uintptr_t address, const Range& old) { return address < old.begin; });
  return after != ranges_.begin() && std::prev(after)->end() >= range.end();
}

}  // namespace dune::software
