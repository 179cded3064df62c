#include "runtime/jit/code_pages.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace dunebox::runtime {
namespace {

// A store into a protected page: the fault, two changes of protection, and blocks that are made again.
constexpr CodePages::Nanoseconds kCostOfStore = 50'000;
// One is forgotten after so long: a tenth may be lost to them.
constexpr CodePages::Nanoseconds kTimeOfStore = 10 * kCostOfStore;
constexpr unsigned kStoresBeforeSelfChecks = 8;
// For how long a page's blocks check themselves then, before they are made without once more; twice as long each
// time when that was too early.
constexpr CodePages::Nanoseconds kFirstTerm = 50'000'000, kLongestTerm = 100 * kFirstTerm;

// Each protected page may be a mapping of the host's more, and cut another in two. A process that is the program's alone
// has them for itself; in one with a life of its own others need them.
constexpr std::size_t kMostProtectedBesideOthers = 1024;

}  // namespace

CodePages::~CodePages() {
  for (const auto& [address, page] : pages_) {
    if (page.is_protected) MakeWritable(address);
  }
}

CodePages::Nanoseconds CodePages::HostClock() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<Nanoseconds>(now.tv_sec) * 1'000'000'000 + static_cast<Nanoseconds>(now.tv_nsec);
}

// It stands still where stores have cost more than there was, as several threads may spend at the same time.
CodePages::Nanoseconds CodePages::Now() {
  const Nanoseconds clock = clock_();
  spent_ = std::min(spent_, clock - latest_);
  latest_ = clock - spent_;
  return latest_;
}

void CodePages::NoteStore(Page& page) {
  const Nanoseconds now = Now();
  spent_ += kCostOfStore;
  const Nanoseconds forgotten = (now - std::exchange(page.last_store, now)) / kTimeOfStore;
  page.stores = forgotten < page.stores ? page.stores - static_cast<unsigned>(forgotten) : 0;
  if (++page.stores < kStoresBeforeSelfChecks) return;
  const bool was_early = page.term != 0 && now - page.checked_until < page.term;
  page.term = was_early ? std::min(2 * page.term, kLongestTerm) : kFirstTerm;
  page.checked_until = now + page.term;
  page.stores = 0;
}

void CodePages::MakeWritable(std::uint64_t page) const {
  mprotect(reinterpret_cast<void*>(memory_.window().base + page), kPageSize,
           PROT_READ | PROT_WRITE);
}

template <typename Visit>
void CodePages::ForPagesIn(const GuestRange& range, Visit visit) {
  const std::uint64_t first = PageDown(range.start.value);
  if ((range.end.value - first) / kPageSize > pages_.size()) {
    for (auto& [address, page] : pages_) {
      if (address >= first && address < range.end.value) visit(address, page);
    }
    return;
  }
  for (std::uint64_t address = first; address < range.end.value; address += kPageSize) {
    const auto found = pages_.find(address);
    if (found != pages_.end()) visit(address, found->second);
  }
}

bool CodePages::UnprotectPage(std::uint64_t address, Page& page) {
  if (!page.is_protected) return false;
  page.is_protected = false;
  protected_.fetch_sub(1, std::memory_order_relaxed);
  MakeWritable(address);
  return true;
}

CodePages::Watch CodePages::Protect(GuestVirt address) {
  const std::uint64_t start = PageDown(address.value);
  std::lock_guard lock(mutex_);
  Page& page = pages_[start];
  if (page.is_protected) return Watch::kThere;
  if (page.checked_until != 0 && Now() < page.checked_until) return Watch::kNone;
  if (memory_.window().is_reserved &&
      protected_.load(std::memory_order_relaxed) >= kMostProtectedBesideOthers) {
    return Watch::kNone;
  }
  void* host = reinterpret_cast<void*>(memory_.window().base + start);
  if (mprotect(host, kPageSize, PROT_READ) != 0) return Watch::kNone;  // too many mappings
  page.is_protected = true;
  protected_.fetch_add(1, std::memory_order_relaxed);
  return Watch::kFresh;
}

bool CodePages::IsProtected(GuestVirt address) {
  std::lock_guard lock(mutex_);
  const auto found = pages_.find(PageDown(address.value));
  return found != pages_.end() && found->second.is_protected;
}

bool CodePages::Unprotect(const GuestRange& range) {
  if (!any_protected()) return false;
  std::lock_guard lock(mutex_);
  bool any = false;
  ForPagesIn(range, [&](std::uint64_t address, Page& page) {
    if (!UnprotectPage(address, page)) return;
    NoteStore(page);
    any = true;
  });
  return any;
}

void CodePages::Forget(const GuestRange& range) {
  std::lock_guard lock(mutex_);
  if (pages_.empty()) return;
  std::vector<std::uint64_t> gone;
  ForPagesIn(range, [&](std::uint64_t address, Page& page) {
    UnprotectPage(address, page);
    gone.push_back(address);
  });
  for (const std::uint64_t address : gone) pages_.erase(address);
}

}  // namespace dunebox::runtime
