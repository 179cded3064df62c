// What page tables that are the program's own are made of: the tables themselves, which go with their owner, and what an
// entry says.
//
//   const auto tables = std::make_shared<const Tables>(PhysicalOf(frame));
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_TABLES_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_TABLES_H_

#include <vector>

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
// Of an entry of `level` that has gone: the frame that a leaf owned, or the table that it led to with what is below.
void GiveBack(std::uint64_t word, int level);

// What entries of a range led to before they were changed. It is given back when no processor remembers the way there any more:
// until then ring 3 may still write to it. So every way out of a change flushes.
//
//   Replaced replaced(range);
//   replaced.Add(entry->exchange(word), level);
class Replaced {
 public:
  explicit Replaced(Range range) : range_(range) {}
  ~Replaced();
  Replaced(const Replaced&) = delete;
  Replaced& operator=(const Replaced&) = delete;

  void Add(std::uint64_t word, int level);

 private:
  struct Gone {
    std::uint64_t word;
    int level;
  };
  const Range range_;
  std::vector<Gone> gone_;
};

Mapping MappingOf(std::uintptr_t page, std::uint64_t word, int level);

absl::Status NoFrame();
absl::Status NotInRing0();
absl::Status NothingAt(std::uintptr_t address);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_TABLES_H_
