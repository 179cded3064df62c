// The process's own mappings, as the kernel has them: asked one by one (PROCMAP_QUERY), or read from the text of
// /proc/self/maps where the kernel has no such question. Nothing is remembered and nothing allocated: it may be asked in
// a fault handler. Neighbours with the same rights may be told apart or together.
//
//   std::optional<Area> area = maps.FindAtOrAbove(address);
//
// A forked child has to call Reopen: the old file still tells of the parent.
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_PROCESS_MAPS_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_PROCESS_MAPS_H_

#include <optional>

#include "absl/status/status.h"
#include "dune/page_table.h"
#include "libdune/software/descriptor.h"

namespace dune::software {

struct Area {
  Range range;
  Rights rights = Rights::kNone;
};

// The text, line by line, on the stack. Nothing allocated.
class MapsText {
 public:
  MapsText();
  // Its lines are pointed to.
  MapsText(const MapsText&) = delete;
  MapsText& operator=(const MapsText&) = delete;
  // The next mapping that ends above `address`.
  std::optional<Area> FindAbove(std::uintptr_t address);

 private:
  bool Fill();

  Descriptor file_;
  char text_[8192];  // a line is an address, and a path that nobody here reads
  char* line_ = text_;
  char* end_ = text_;
};

class ProcessMaps {
 public:
  // kUnavailable: no /proc.
  absl::Status Reopen();

  // The mapping that holds `address`, or the lowest one above it.
  std::optional<Area> FindAtOrAbove(std::uintptr_t address) const;

  // Calls visitor(Range, Rights) for what is mapped of `range`, in order; returns whether all of it is.
  template <typename Visitor>
  bool Visit(Range range, Visitor visitor) const;

  bool has_query() const { return has_query_; }

 private:
  Descriptor file_;
  bool has_query_ = false;
};

// FindAtOrAbove for addresses that only go up: the text is then read once.
class MapsCursor {
 public:
  explicit MapsCursor(const ProcessMaps& maps) : maps_(maps) {
    if (!maps.has_query()) text_.emplace();
  }
  std::optional<Area> FindAtOrAbove(std::uintptr_t address);

 private:
  const ProcessMaps& maps_;
  std::optional<MapsText> text_;
  std::optional<Area> last_;
};

template <typename Visitor>
bool ProcessMaps::Visit(Range range, Visitor visitor) const {
  MapsCursor cursor(*this);
  bool is_whole = true;
  std::uintptr_t from = range.begin;
  while (from < range.end()) {
    const std::optional<Area> area = cursor.FindAtOrAbove(from);
    if (!area || area->range.begin >= range.end()) return false;
    if (area->range.begin > from) {
      is_whole = false;
      from = area->range.begin;
    }
    const std::uintptr_t end = area->range.end() < range.end() ? area->range.end() : range.end();
    visitor(Range{from, end - from}, area->rights);
    from = end;
  }
  return is_whole;
}

// A line of the text; nothing where it is none.
std::optional<Area> ParseMapsLine(const char* begin, const char* end);

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_PROCESS_MAPS_H_
