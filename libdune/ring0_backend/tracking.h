// Which bits of an entry PageTable::Track is about, and what a harvest finds as ranges.
//
//   if ((entry.fetch_and(~BitOf(tracking)) & BitOf(tracking)) != 0) Append(found, {page, kPageSize});
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_TRACKING_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_TRACKING_H_

#include <cstdint>
#include <vector>

#include "dune/page_table.h"
#include "libdune/ring0_backend/entries.h"

namespace dune::ring0 {

// What the processor sets.
constexpr std::uint64_t BitOf(Tracking tracking) {
  return tracking == Tracking::kDirty ? bits::kDirty : bits::kAccessed;
}

// What says that it is looked for.
constexpr std::uint64_t TrackBitOf(Tracking tracking) {
  return tracking == Tracking::kDirty ? bits::kTrackDirty : bits::kTrackAccessed;
}

// In ascending order: neighbours become one range.
inline void Append(std::vector<Range>& ranges, Range next) {
  if (!ranges.empty() && ranges.back().end() == next.begin) {
    ranges.back().size += next.size;
  } else {
    ranges.push_back(next);
  }
}

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_TRACKING_H_
