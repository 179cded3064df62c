#include "libdune/software/process_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "libdune/software/kernel_abi.h"

namespace dune::software {

// So that a right is a PROT_* and back.
static_assert(static_cast<int>(Rights::kRead) == PROT_READ);
static_assert(static_cast<int>(Rights::kReadWrite) == (PROT_READ | PROT_WRITE));
static_assert(static_cast<int>(Rights::kReadExecute) == (PROT_READ | PROT_EXEC));

namespace {

constexpr const char* kMapsFile = "/proc/self/maps";

std::optional<Area> Query(int file, std::uintptr_t address) {
  MappingQuery query;
  query.query_flags = kQueryCoveringOrNext;
  query.query_addr = address;
  if (ioctl(file, kMappingQuery, &query) != 0) return std::nullopt;
  return Area{{query.vma_start, query.vma_end - query.vma_start},
              static_cast<Rights>(query.vma_flags & kQueryRights)};
}

}  // namespace

std::optional<Area> ParseMapsLine(const char* begin, const char* end) {
  std::uintptr_t first = 0;
  std::uintptr_t last = 0;
  const auto low = std::from_chars(begin, end, first, 16);
  if (low.ec != std::errc() || low.ptr == end || *low.ptr != '-') return std::nullopt;
  const auto high = std::from_chars(low.ptr + 1, end, last, 16);
  if (high.ec != std::errc() || end - high.ptr < 5 || *high.ptr != ' ' || last <= first) {
    return std::nullopt;
  }
  const char* const letters = high.ptr + 1;
  const int rights = (letters[0] == 'r' ? PROT_READ : 0) | (letters[1] == 'w' ? PROT_WRITE : 0) |
                     (letters[2] == 'x' ? PROT_EXEC : 0);
  return Area{{first, last - first}, static_cast<Rights>(rights)};
}

MapsText::MapsText() : file_(open(kMapsFile, O_RDONLY | O_CLOEXEC)) {}

bool MapsText::Fill() {
  const auto kept = static_cast<std::size_t>(end_ - line_);
  if (kept == sizeof(text_)) return false;
  std::memmove(text_, line_, kept);
  line_ = text_;
  end_ = text_ + kept;
  ssize_t count = 0;
  do {
    count = read(file_.get(), end_, sizeof(text_) - kept);
  } while (count < 0 && errno == EINTR);
  if (count <= 0) return false;
  end_ += count;
  return true;
}

std::optional<Area> MapsText::FindAbove(std::uintptr_t address) {
  for (;;) {
    char* const newline = std::find(line_, end_, '\n');
    if (newline == end_) {
      if (!Fill()) return std::nullopt;
      continue;
    }
    const std::optional<Area> area = ParseMapsLine(line_, newline);
    line_ = newline + 1;
    if (area && area->range.end() > address) return area;
  }
}

absl::Status ProcessMaps::Reopen() {
  file_ = Descriptor(open(kMapsFile, O_RDONLY | O_CLOEXEC));
  if (!file_.valid()) return absl::UnavailableError("/proc/self/maps cannot be read");
  has_query_ = Query(file_.get(), 0).has_value();
  return absl::OkStatus();
}

std::optional<Area> ProcessMaps::FindAtOrAbove(std::uintptr_t address) const {
  return has_query_ ? Query(file_.get(), address) : MapsText().FindAbove(address);
}

std::optional<Area> MapsCursor::FindAtOrAbove(std::uintptr_t address) {
  if (!last_ || last_->range.end() <= address) {
    last_ = text_ ? text_->FindAbove(address) : maps_.FindAtOrAbove(address);
  }
  return last_;
}

}  // namespace dune::software
