// Two bytes for each page of the user half, zero until they are set: what the backend knows of the page. They lie in
// mappings of their own and grow by 512 KiB for each GiB of addresses that is marked, so nothing here allocates from the
// heap and it may be used in a fault handler. Not thread-safe: its owner has the lock.
//
//   marks.Set(range, mark);                       // after Reserve(range)
//   marks.ForEachRun(range, [](Range run, PageMark mark) { ... });
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_PAGE_MARKS_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_PAGE_MARKS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/status/status.h"
#include "dune/page_table.h"

namespace dune::software {

using PageMark = std::uint16_t;

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

  // Calls visitor(Range, PageMark), in order; a run is as long as the mark is the same within a GiB. A visitor that
  // returns false is not called again.
  template <typename Visitor>
  void ForEachRun(Range range, Visitor visitor) const;

 private:
  static constexpr std::uintptr_t kUserHalf = std::uintptr_t{1} << 47;
  static constexpr std::size_t kPart = std::size_t{1} << 30;
  static constexpr std::size_t kPartPages = kPart / kPageSize;
  static constexpr std::size_t kPartSize = kPartPages * sizeof(PageMark);

  // How many marks from `first` on are the same, at most `count`.
  static std::size_t CountSame(const PageMark* first, std::size_t count);

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
    PageMark mark = 0;
    std::uintptr_t to = part_end;
    if (marks != nullptr) {
      const PageMark* const first = marks + from / kPageSize % kPartPages;
      mark = *first;
      to = from + kPageSize * CountSame(first, (part_end - from) / kPageSize);
    }
    if constexpr (std::is_same_v<decltype(visitor(range, mark)), bool>) {
      if (!visitor(Range{from, to - from}, mark)) return;
    } else {
      visitor(Range{from, to - from}, mark);
    }
    from = to;
  }
}

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_PAGE_MARKS_H_
