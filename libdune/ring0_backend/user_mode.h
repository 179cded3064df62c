// Ring 3: RunUser and the copies in and out, over any table.
//
//   absl::StatusOr<Stop> stop = RunInRing3(context, table.root(), options);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_USER_MODE_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_USER_MODE_H_

#include <cstdint>

#include "dune/user.h"
#include "libdune/ring0_backend/own_table.h"

namespace dune::ring0 {

absl::StatusOr<Stop> RunInRing3(UserContext& context, std::uint64_t root,
                                const RunOptions& options);

// kOutOfRange where ring 3 has not the rights; nothing is copied then, unless they are taken away meanwhile. What another thread
// unmaps may be another table's at once: each page is copied with the table's lock.
absl::Status CopyFromRing3(const PageTable::Implementation& table, void* to, std::uintptr_t user, std::size_t size);
// What a clone of the table has by then is as it was.
absl::Status CopyToRing3(OwnTable& table, std::uintptr_t user, const void* from, std::size_t size);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_USER_MODE_H_
