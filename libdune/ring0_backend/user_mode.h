// Ring 3: RunUser and the copies in and out, over any table.
//
//   absl::StatusOr<Stop> stop = RunInRing3(context, table.root(), options);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_USER_MODE_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_USER_MODE_H_

#include <cstdint>

#include "dune/user.h"

namespace dune::ring0 {

absl::StatusOr<Stop> RunInRing3(UserContext& context, std::uint64_t root,
                                const RunOptions& options);

enum class Direction : std::uint8_t { kFromUser, kToUser };
// kOutOfRange where ring 3 has not the rights; nothing is copied then.
absl::Status CopyUser(std::uint64_t root, std::uintptr_t user, void* own, std::size_t size,
                      Direction direction);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_USER_MODE_H_
