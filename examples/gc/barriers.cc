#include "examples/gc/barriers.h"

#include <signal.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace gc {

void Die(const char* what) {
  std::fprintf(stderr, "dunebox: gc: %s\n", what);
  std::abort();
}

CardBarrier::CardBarrier(dune::Range space)
    : begin_(space.begin), cards_(space.size / kCardSize), extent_{space.begin, 0} {}

void CardBarrier::TakeWritten(WrittenVisitor visitor) {
  const std::size_t end = Card(extent_.end());
  for (std::size_t card = 0; card < end; ++card) {
    if (cards_[card] == 0) continue;
    const std::size_t first = card;
    for (; card < end && cards_[card] != 0; ++card) cards_[card] = 0;
    visitor({begin_ + first * kCardSize, (card - first) * kCardSize});
  }
  // Beyond, no object is old.
  std::fill(cards_.begin() + static_cast<std::ptrdiff_t>(end), cards_.end(), 0);
}

struct ProtectionBarrier::Pages {
  dune::Range extent;
  std::vector<std::uint8_t> is_written;
  struct sigaction before {};

  static Pages* current;
  static void OnFault(int signal, siginfo_t* info, void* context);
};

ProtectionBarrier::Pages* ProtectionBarrier::Pages::current = nullptr;

void ProtectionBarrier::Pages::OnFault(int signal, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const dune::Range extent = current->extent;
  if (address < extent.begin || address >= extent.end()) {
    sigaction(signal, &current->before, nullptr);  // the instruction faults again
    return;
  }
  const std::size_t page = (address - extent.begin) / dune::kPageSize;
  current->is_written[page] = 1;
  mprotect(reinterpret_cast<void*>(extent.begin + page * dune::kPageSize), dune::kPageSize,
           PROT_READ | PROT_WRITE);
}

ProtectionBarrier::ProtectionBarrier(dune::Range space) : pages_(std::make_unique<Pages>()) {
  pages_->extent = {space.begin, 0};
  pages_->is_written.resize(space.size / dune::kPageSize);
  Pages::current = pages_.get();
  struct sigaction action {};
  action.sa_sigaction = Pages::OnFault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &pages_->before);
}

ProtectionBarrier::~ProtectionBarrier() {
  const dune::Range extent = pages_->extent;
  mprotect(reinterpret_cast<void*>(extent.begin), extent.size, PROT_READ | PROT_WRITE);
  sigaction(SIGSEGV, &pages_->before, nullptr);
  Pages::current = nullptr;
}

void ProtectionBarrier::Cover(dune::Range extent) {
  pages_->extent = extent;
  if (mprotect(reinterpret_cast<void*>(extent.begin), extent.size, PROT_READ) != 0) {
    Die("mprotect: too many mappings");
  }
}

// The rights are taken again by Cover, which follows.
void ProtectionBarrier::TakeWritten(WrittenVisitor visitor) {
  const dune::Range extent = pages_->extent;
  const std::size_t end = extent.size / dune::kPageSize;
  for (std::size_t page = 0; page < end; ++page) {
    if (pages_->is_written[page] == 0) continue;
    const std::size_t first = page;
    for (; page < end && pages_->is_written[page] != 0; ++page) pages_->is_written[page] = 0;
    visitor({extent.begin + first * dune::kPageSize, (page - first) * dune::kPageSize});
  }
}

DuneBarrier::~DuneBarrier() {
  if (extent_.size == 0) return;
  const absl::Status untracked =
      dune::PageTable::Current().Untrack(extent_, dune::Tracking::kDirty);
  if (!untracked.ok()) Die(std::string(untracked.message()).c_str());
}

void DuneBarrier::Cover(dune::Range extent) {
  if (extent.size == extent_.size) return;
  const dune::Range added{extent_.end(), extent.size - extent_.size};
  const absl::Status tracked = dune::PageTable::Current().Track(added, dune::Tracking::kDirty);
  if (!tracked.ok()) Die(std::string(tracked.message()).c_str());
  extent_ = extent;
}

void DuneBarrier::TakeWritten(WrittenVisitor visitor) {
  const absl::Status told = dune::PageTable::Current().TestAndClearDirty(extent_, visitor);
  if (!told.ok()) Die(std::string(told.message()).c_str());
}

}  // namespace gc
