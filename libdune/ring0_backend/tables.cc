#include "libdune/ring0_backend/tables.h"

#include "absl/strings/str_cat.h"
#include "libdune/ring0_backend/flush.h"

namespace dune::ring0 {

absl::Status NoFrame() {
  return absl::ResourceExhaustedError("EnterOptions::frame_pool has no frame left");
}
absl::Status NotInRing0() {
  return absl::FailedPreconditionError("this thread is not in ring 0; see dune::Enter");
}
absl::Status NothingAt(std::uintptr_t address) {
  return absl::NotFoundError(absl::StrCat("nothing is mapped at 0x", absl::Hex(address)));
}

void GiveBack(std::uint64_t word, int level) {
  if (level > 1 && LeadsToTable(word)) {
    if ((word & bits::kForeign) != 0) return;
    if ((word & bits::kShared) != 0 && !DropReference(word & bits::kFrame)) return;
    FreeTables(word & bits::kFrame, level - 1);
  } else if ((word & bits::kOwned) != 0) {
    DropFrame(word & bits::kFrame);
  }
}

void FreeTables(std::uint64_t physical, int level) {
  const unsigned count = level == 4 ? kLowerHalf : x86::kEntriesPerTable;
  ForEachUsed(TableAt(physical), [&](unsigned index, const Entry& entry) {
    if (index < count) GiveBack(entry.load(), level);
  });
  GiveFrame(AddressOf(physical));
}

void Replaced::Add(std::uint64_t word, int level) {
  if ((word & bits::kOwned) != 0 || (level > 1 && LeadsToTable(word))) gone_.push_back({word, level});
}

Replaced::~Replaced() {
  FlushRange(range_);
  for (const Gone& gone : gone_) GiveBack(gone.word, gone.level);
}

Tables::~Tables() {
  vm.retired_tables.fetch_add(1);
  FreeTables(root, 4);
}

Mapping MappingOf(std::uintptr_t page, std::uint64_t word, int level) {
  const bool present = (word & bits::kPresent) != 0;
  const bool copied = (word & bits::kCopyOnWrite) != 0;
  const bool write = (word & bits::kWritable) != 0 || copied;
  return {.page = {page, level == 2 ? kLargePageSize : kPageSize},
          .memory =
              AddressOf(word & bits::kFrame & ~std::uint64_t{level == 2 ? kLargePageSize - 1 : 0}),
          .rights = !present ? Rights::kNone
                             : static_cast<Rights>(1 | (write ? 2 : 0) |
                                                   ((word & bits::kNoExecute) == 0 ? 4 : 0)),
          .ring = (word & bits::kUser) != 0 ? Ring::kUser : Ring::kSupervisor,
          .dirty = (word & bits::kDirty) != 0,
          .accessed = (word & bits::kAccessed) != 0,
          .copy_on_write = copied};
}

}  // namespace dune::ring0
