#include "examples/checkpoint/checkpointer.h"

#include <cstring>
#include <utility>

namespace checkpoint {

using dune::kPageSize;
using dune::PageTable;

absl::Status Checkpointer::Take() {
  if (absl::Status before = Finish(); !before.ok()) return before;
  written_.clear();
  absl::Status told = PageTable::Current().TestAndClearDirty(arena_, [this](dune::Range written) {
    written_.push_back(written);
    pages_ += written.size / kPageSize;
  });
  if (!told.ok()) return told;
  if (by_ == By::kStandingStill) {
    return log_.Append(written_, [](void* to, std::uintptr_t page) {
      std::memcpy(to, reinterpret_cast<const void*>(page), kPageSize);
      return absl::OkStatus();
    });
  }
  absl::StatusOr<PageTable> clone = PageTable::Current().Clone(PageTable::Sharing::kCopyOnWrite);
  if (!clone.ok()) return clone.status();
  clone_ = *std::move(clone);
  writer_ = std::thread([this] {
    saved_ = log_.Append(written_, [this](void* to, std::uintptr_t page) { return clone_->Read(to, page, kPageSize); });
    clone_.reset();
  });
  return absl::OkStatus();
}

absl::Status Checkpointer::Finish() {
  if (writer_.joinable()) writer_.join();
  return std::exchange(saved_, absl::OkStatus());
}

}  // namespace checkpoint
