// One byte for each page of the user half, zero until it is set: what the backend knows of the page. It lies in
// mappings of its own and grows by 256 KiB for each GiB of addresses that is marked, so nothing here allocates from the
// heap and it may be used in a fault handler. Not thread-safe: its owner has the lock.
//
//   marks.Set(range, mark);                       // after Reserve(range)
//   marks.ForEachRun(range, [](Range run, PageMark mark) { ... });
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_PAGE_MARKS_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_PAGE_MARKS_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "dune/page_table.h"

namespace dune::software {

using PageMark = std::uint8_t;

class PageMarks {
 public:
  PageMarks() = default;
  PageMarks(const PageMarks&) = delete;
  PageMarks& operator=(const PageMarks&) = delete;
  ~PageMarks();

  // Room for the marks of `range`. kOutOfRange: not in the user half; kResourceExhausted.
  absl::Status Reserve(Range range);

  // Of a range that there is room for.
  void Set(Range range, PageMark mark);
  PageMark Get(std::uintptr_t address) const;

  // In order; a run is as long as the mark is the same within a GiB.
  template <typename Visitor>
  void ForEachRun(Range range, Visitor visitor) const;

 private:
  static constexpr std::uintptr_t kUserHalf = std::uintptr_t{1} << 47;
  static constexpr std::size_t kPart = std::size_t{1} << 30;
  static constexpr std::size_t kPartPages = kPart / kPageSize;

  PageMark* part(std::uintptr_t address) const {
    return parts_ == nullptr || address >= kUserHalf ? nullptr : parts_[address / kPart];
  }

  PageMark** parts_ = nullptr;  // by GiB; null where nothing was marked
};

template <typename Visitor>
void PageMarks::ForEachRun(Range range, Visitor visitor) const {
  std::uintptr_t from = range.begin;
  while (from < range.end()) {
    const std::uintptr_t part_end = std::min(range.end(), (from / kPart + 1) * kPart);
    const PageMark* const marks = part(from);
    if (marks == nullptr) {
      visitor(Range{from, part_end - from}, PageMark{0});
      from = part_end;
      continue;
    }
    const PageMark mark = marks[from / kPageSize % kPartPages];
    std::uintptr_t to = from + kPageSize;
    while (to < part_end && marks[to / kPageSize % kPartPages] == mark) to += kPageSize;
    visitor(Range{from, to - from}, mark);
    from = to;
  }
}

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_PAGE_MARKS_H_
