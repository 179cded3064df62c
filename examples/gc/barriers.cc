#include "examples/gc/barriers.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace gc {

void Die(const char* what) {
  std::fprintf(stderr, "dunebox: gc: %s\n", what);
  std::abort();
}

namespace {

void DieUnless(const absl::Status& status) {
  if (!status.ok()) Die(std::string(status.message()).c_str());
}

// What is in `ranges` and not in `others`; both in order.
Ranges Without(const Ranges& ranges, const Ranges& others) {
  Ranges left;
  auto other = others.begin();
  for (const dune::Range& range : ranges) {
    std::uintptr_t from = range.begin;
    while (other != others.end() && other->end() <= from) ++other;
    for (auto next = other; next != others.end() && next->begin < range.end(); ++next) {
      if (next->begin > from) left.push_back({from, next->begin - from});
      from = next->end();
    }
    if (from < range.end()) left.push_back({from, range.end() - from});
  }
  return left;
}

}  // namespace

CardBarrier::CardBarrier(dune::Range space)
    : begin_(space.begin), cards_(space.size / kCardSize) {}

void CardBarrier::Cover(const Ranges& old) {
  old_ = old;
  std::fill(cards_.begin(), cards_.end(), 0);
}

void CardBarrier::TakeWritten(WrittenVisitor visitor) {
  for (const dune::Range& range : old_) {
    const std::size_t end = Card(range.end());
    for (std::size_t card = Card(range.begin); card < end; ++card) {
      const std::size_t first = card;
      while (card < end && cards_[card] != 0) ++card;
      if (card != first) visitor({begin_ + first * kCardSize, (card - first) * kCardSize});
    }
  }
}

struct ProtectionBarrier::Pages {
  dune::Range space;
  Ranges old;
  std::vector<std::uint8_t> is_written;
  struct sigaction before {};

  void Protect(const dune::Range& range, int protection) const {
    if (mprotect(reinterpret_cast<void*>(range.begin), range.size, protection) != 0) {
      Die("mprotect: too many mappings");
    }
  }
  std::size_t PageOf(std::uintptr_t address) const {
    return (address - space.begin) / dune::kPageSize;
  }

  static Pages* current;
  static void OnFault(int signal, siginfo_t* info, void* context);
};

ProtectionBarrier::Pages* ProtectionBarrier::Pages::current = nullptr;

void ProtectionBarrier::Pages::OnFault(int signal, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const dune::Range space = current->space;
  if (address < space.begin || address >= space.end()) {
    sigaction(signal, &current->before, nullptr);  // the instruction faults again
    return;
  }
  const std::size_t page = current->PageOf(address);
  current->is_written[page] = 1;
  mprotect(reinterpret_cast<void*>(space.begin + page * dune::kPageSize), dune::kPageSize,
           PROT_READ | PROT_WRITE);
}

ProtectionBarrier::ProtectionBarrier(dune::Range space) : pages_(std::make_unique<Pages>()) {
  pages_->space = space;
  pages_->is_written.resize(space.size / dune::kPageSize);
  Pages::current = pages_.get();
  struct sigaction action {};
  action.sa_sigaction = Pages::OnFault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &pages_->before);
}

ProtectionBarrier::~ProtectionBarrier() {
  pages_->Protect(pages_->space, PROT_READ | PROT_WRITE);
  sigaction(SIGSEGV, &pages_->before, nullptr);
  Pages::current = nullptr;
}

void ProtectionBarrier::Cover(const Ranges& old) {
  // What was old and is free now is written to soon.
  std::uintptr_t end = pages_->space.begin;
  for (const dune::Range& range : old) {
    if (range.begin != end) pages_->Protect({end, range.begin - end}, PROT_READ | PROT_WRITE);
    pages_->Protect(range, PROT_READ);
    end = range.end();
  }
  if (!pages_->old.empty() && pages_->old.back().end() > end) {
    pages_->Protect({end, pages_->old.back().end() - end}, PROT_READ | PROT_WRITE);
  }
  std::fill(pages_->is_written.begin(), pages_->is_written.end(), 0);
  pages_->old = old;
}

void ProtectionBarrier::TakeWritten(WrittenVisitor visitor) {
  for (const dune::Range& range : pages_->old) {
    const std::size_t end = pages_->PageOf(range.end());
    for (std::size_t page = pages_->PageOf(range.begin); page < end; ++page) {
      const std::size_t first = page;
      while (page < end && pages_->is_written[page] != 0) ++page;
      if (page == first) continue;
      visitor({pages_->space.begin + first * dune::kPageSize, (page - first) * dune::kPageSize});
    }
  }
}

DuneBarrier::~DuneBarrier() { Cover({}); }

// What stays was made clean by TakeWritten, and nothing has run since.
void DuneBarrier::Cover(const Ranges& old) {
  dune::PageTable& table = dune::PageTable::Current();
  for (const dune::Range& range : Without(old_, old)) {
    DieUnless(table.Untrack(range, dune::Tracking::kDirty));
  }
  for (const dune::Range& range : Without(old, old_)) {
    DieUnless(table.Track(range, dune::Tracking::kDirty));
  }
  old_ = old;
}

void DuneBarrier::TakeWritten(WrittenVisitor visitor) {
  for (const dune::Range& range : old_) {
    DieUnless(dune::PageTable::Current().TestAndClearDirty(range, visitor));
  }
}

}  // namespace gc
