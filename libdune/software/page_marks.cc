#include "libdune/software/page_marks.h"

#include <sys/mman.h>

#include <cstring>

namespace dune::software {
namespace {

void* MapZeros(std::size_t size) {
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

PageMarks::~PageMarks() {
  if (parts_ == nullptr) return;
  for (std::size_t index = 0; index < kUserHalf / kPart; ++index) {
    if (parts_[index] != nullptr) munmap(parts_[index], kPartSize);
  }
  munmap(parts_, kUserHalf / kPart * sizeof(*parts_));
}

absl::Status PageMarks::Reserve(Range range) {
  if (range.end() > kUserHalf) return absl::OutOfRangeError("no address of a program's memory");
  if (parts_ == nullptr) {
    parts_ = static_cast<PageMark**>(MapZeros(kUserHalf / kPart * sizeof(*parts_)));
    if (parts_ == nullptr) return absl::ResourceExhaustedError("no memory for page marks");
  }
  for (std::uintptr_t from = range.begin; from < range.end(); from = (from / kPart + 1) * kPart) {
    PageMark*& marks = parts_[from / kPart];
    if (marks == nullptr) marks = static_cast<PageMark*>(MapZeros(kPartSize));
    if (marks == nullptr) return absl::ResourceExhaustedError("no memory for page marks");
  }
  return absl::OkStatus();
}

void PageMarks::Set(Range range, PageMark mark) {
  for (std::uintptr_t from = range.begin; from < range.end();) {
    const std::uintptr_t to = std::min(range.end(), (from / kPart + 1) * kPart);
    std::fill_n(part(from) + from / kPageSize % kPartPages, (to - from) / kPageSize, mark);
    from = to;
  }
}

std::size_t PageMarks::CountSame(const PageMark* first, std::size_t count) {
  constexpr std::uint64_t kEachMark = 0x0001000100010001;
  constexpr std::size_t kAtOnce = sizeof(kEachMark) / sizeof(PageMark);
  const std::uint64_t same = kEachMark * *first;
  std::size_t index = 0;
  for (std::uint64_t marks = 0; index + kAtOnce <= count; index += kAtOnce) {
    std::memcpy(&marks, first + index, sizeof(marks));
    if (marks != same) break;
  }
  while (index < count && first[index] == *first) ++index;
  return index;
}

PageMark PageMarks::Get(std::uintptr_t address) const {
  const PageMark* const marks = part(address);
  return marks == nullptr ? PageMark{0} : marks[address / kPageSize % kPartPages];
}

}  // namespace dune::software
