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
    if (parts_[index] != nullptr) munmap(parts_[index], kPartPages);
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
    if (marks == nullptr) marks = static_cast<PageMark*>(MapZeros(kPartPages));
    if (marks == nullptr) return absl::ResourceExhaustedError("no memory for page marks");
  }
  return absl::OkStatus();
}

void PageMarks::Set(Range range, PageMark mark) {
  for (std::uintptr_t from = range.begin; from < range.end();) {
    const std::uintptr_t to = std::min(range.end(), (from / kPart + 1) * kPart);
    std::memset(part(from) + from / kPageSize % kPartPages, mark, (to - from) / kPageSize);
    from = to;
  }
}

std::size_t PageMarks::CountSame(const PageMark* first, std::size_t count) {
  constexpr std::uint64_t kEachByte = 0x0101010101010101;
  const std::uint64_t same = kEachByte * *first;
  std::size_t index = 0;
  for (std::uint64_t marks = 0; index + sizeof(marks) <= count; index += sizeof(marks)) {
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
