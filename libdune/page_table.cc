#include "dune/page_table.h"

#include <atomic>
#include <limits>
#include <utility>

#include "libdune/backend.h"

namespace dune {
namespace {

constexpr std::size_t kSharedPart = std::size_t{1} << 30;  // what one table of the second level maps

absl::Status CheckRange(Range range, std::size_t unit = kPageSize) {
  if (range.begin % unit != 0 || range.size % unit != 0) {
    return absl::InvalidArgumentError("the range is not of whole pages");
  }
  if (range.size > std::numeric_limits<std::uintptr_t>::max() - range.begin) {
    return absl::InvalidArgumentError("the range goes past the end of the addresses");
  }
  return absl::OkStatus();
}

absl::Status NotOfCurrent() {
  return absl::InvalidArgumentError("the process's own table is changed by mmap and munmap");
}

}  // namespace

PageTable::PageTable(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
PageTable::PageTable(PageTable&& other) noexcept = default;
PageTable& PageTable::operator=(PageTable&& other) noexcept = default;
PageTable::~PageTable() = default;

PageTable& PageTable::Current() {
  // Never destroyed: a fault handler may still use it while the process ends. Made without a lock: a child of a fork that
  // found another thread making it would wait for that thread for ever.
  static constinit std::atomic<PageTable*> current{nullptr};
  PageTable* made = current.load(std::memory_order_acquire);
  if (made != nullptr) return *made;
  auto* const fresh = new PageTable(nullptr);
  if (current.compare_exchange_strong(made, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *made;
}

PageTable::Implementation* PageTable::implementation() const {
  if (implementation_ != nullptr || this != &Current()) return implementation_.get();
  return CurrentMachine() == nullptr ? nullptr : &CurrentMachine()->current_table();
}

absl::StatusOr<PageTable> PageTable::Create(Contents contents) {
  if (CurrentMachine() == nullptr) return NotEntered();
  auto made = CurrentMachine()->CreateTable(contents);
  if (!made.ok()) return made.status();
  return PageTable(*std::move(made));
}

absl::StatusOr<PageTable> PageTable::Clone(Sharing sharing) const {
  const Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  auto cloned = table->Clone(sharing);
  if (!cloned.ok()) return cloned.status();
  return PageTable(*std::move(cloned));
}

absl::Status PageTable::Map(Range where, const void* memory, const MapOptions& options) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (this == &Current()) return NotOfCurrent();
  const std::size_t unit = options.page_size == PageSize::k2MiB ? kLargePageSize : kPageSize;
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  if (absl::Status checked = CheckRange(where, unit); !checked.ok()) return checked;
  if (absl::Status checked = CheckRange({address, where.size}, unit); !checked.ok()) return checked;
  return table->Map(where, address, options);
}

absl::Status PageTable::Unmap(Range range) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (this == &Current()) return NotOfCurrent();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->Unmap(range);
}

absl::Status PageTable::Protect(Range range, Rights rights) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->Protect(range, rights);
}

absl::Status PageTable::Claim(Range range) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->Claim(range);
}

absl::Status PageTable::Disclaim(Range range) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  table->Disclaim(range);
  return absl::OkStatus();
}

absl::Status PageTable::Share(Range range, PageTable& other) {
  Implementation* const table = implementation();
  Implementation* const shared = other.implementation();
  if (table == nullptr || shared == nullptr) return NotEntered();
  if (this == &Current()) return NotOfCurrent();
  if (absl::Status checked = CheckRange(range, kSharedPart); !checked.ok()) return checked;
  return table->Share(range, *shared);
}

absl::StatusOr<Mapping> PageTable::Walk(std::uintptr_t address) const {
  const Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  return table->Walk(address);
}

absl::Status PageTable::Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const {
  const Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->Visit(range, visitor);
}

absl::Status PageTable::Read(void* to, std::uintptr_t from, std::size_t size) const {
  const Implementation* const table = implementation();
  return table == nullptr ? NotEntered() : table->Read(to, from, size);
}

absl::Status PageTable::Track(Range range, Tracking tracking) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->Track(range, tracking);
}

absl::Status PageTable::Untrack(Range range, Tracking tracking) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->Untrack(range, tracking);
}

absl::Status PageTable::TestAndClearDirty(Range range, absl::FunctionRef<void(Range)> visitor) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->TestAndClear(range, Tracking::kDirty, visitor);
}

absl::Status PageTable::TestAndClearAccessed(Range range, absl::FunctionRef<void(Range)> visitor) {
  Implementation* const table = implementation();
  if (table == nullptr) return NotEntered();
  if (absl::Status checked = CheckRange(range); !checked.ok()) return checked;
  return table->TestAndClear(range, Tracking::kAccessed, visitor);
}

absl::Status PageTable::Activate() {
  Implementation* const table = implementation();
  return table == nullptr ? NotEntered() : table->Activate();
}

void PageTable::Flush(Range range) {
  if (Implementation* const table = implementation(); table != nullptr) table->Flush(range);
}

std::uint64_t PageTable::root() const {
  const Implementation* const table = implementation();
  return table == nullptr ? 0 : table->root();
}

}  // namespace dune
