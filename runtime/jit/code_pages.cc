#include "runtime/jit/code_pages.h"

#include <sys/mman.h>

#include <vector>

namespace dunebox::runtime {

CodePages::~CodePages() {
  for (const std::uint64_t page : pages_) MakeWritable(page);
}

void CodePages::MakeWritable(std::uint64_t page) const {
  mprotect(memory_.HostAddress(page, kPageSize), kPageSize, PROT_READ | PROT_WRITE);
}

void CodePages::Protect(GuestVirt address) {
  const std::uint64_t page = PageDown(address.value);
  std::lock_guard lock(mutex_);
  if (!pages_.insert(page).second) return;
  count_.store(pages_.size(), std::memory_order_relaxed);
  mprotect(memory_.HostAddress(page, kPageSize), kPageSize, PROT_READ);
}

bool CodePages::Unprotect(const GuestRange& range) {
  if (!any()) return false;
  std::lock_guard lock(mutex_);
  std::vector<std::uint64_t> found;
  const std::uint64_t first = PageDown(range.start.value);
  if ((range.end.value - first) / kPageSize <= pages_.size()) {
    for (std::uint64_t page = first; page < range.end.value; page += kPageSize) {
      if (pages_.contains(page)) found.push_back(page);
    }
  } else {
    for (const std::uint64_t page : pages_) {
      if (page >= first && page < range.end.value) found.push_back(page);
    }
  }
  for (const std::uint64_t page : found) {
    pages_.erase(page);
    MakeWritable(page);
  }
  count_.store(pages_.size(), std::memory_order_relaxed);
  return !found.empty();
}

}  // namespace dunebox::runtime
