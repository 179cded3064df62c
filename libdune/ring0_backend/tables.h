// What page tables that are the program's own are made of: the tables themselves, which go with their owner, and what an
// entry says.
//
//   const auto tables = std::make_shared<const Tables>(PhysicalOf(frame));
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_TABLES_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_TABLES_H_

#include "absl/status/status.h"
#include "dune/page_table.h"
#include "libdune/ring0_backend/entries.h"

namespace dune::ring0 {

inline constexpr unsigned kLowerHalf = x86::kEntriesPerTable / 2;
inline constexpr std::uint64_t kLowerEnd = std::uint64_t{1} << 47;

// A root and the tables below it that are nobody else's, with the frames that their leaves own.
class Tables {
 public:
  explicit Tables(std::uint64_t physical) : root(physical) {}
  ~Tables();
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;

  const std::uint64_t root;
};

// A table, which nobody uses, and what is below it that is nobody else's.
void FreeTables(std::uint64_t physical, int level);
// Of a leaf that has gone.
void GiveBack(std::uint64_t word);

Mapping MappingOf(std::uintptr_t page, std::uint64_t word, int level);

absl::Status NoFrame();
absl::Status NotInRing0();
absl::Status NothingAt(std::uintptr_t address);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_TABLES_H_
