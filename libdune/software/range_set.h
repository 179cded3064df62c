// A set of addresses as ranges: sorted, neighbours joined.
//
//   tracked.Add(heap);
//   if (!tracked.Covers(range)) return NotTracked();
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_RANGE_SET_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_RANGE_SET_H_

#include <span>
#include <vector>

#include "dune/page_table.h"

namespace dune::software {

class RangeSet {
 public:
  void Add(Range range);
  void Remove(Range range);
  bool Covers(Range range) const;  // an empty range always
  std::span<const Range> ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_RANGE_SET_H_
