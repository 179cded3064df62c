#include "libdune/ring0_backend/tables.h"

#include "absl/strings/str_cat.h"

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

void GiveBack(std::uint64_t word) {
  if ((word & bits::kOwned) != 0) DropFrame(word & bits::kFrame);
}

void FreeTables(std::uint64_t physical, int level) {
  Entry* const table = TableAt(physical);
  const unsigned count = level == 4 ? kLowerHalf : x86::kEntriesPerTable;
  ForEachUsed(table, [&](unsigned index, const Entry& entry) {
    if (index >= count) return;
    const std::uint64_t word = entry.load();
    if (level == 1 || (word & bits::kLarge) != 0) {
      GiveBack(word);
    } else if (LeadsToTable(word) && (word & (bits::kForeign | bits::kShared)) == 0) {
      FreeTables(word & bits::kFrame, level - 1);
    }
  });
  GiveFrame(AddressOf(physical));
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
