// Puts a static program into an empty table, in pages of the pool, with a stack as the ABI wants
// it. [abi §3.4]
//
//   absl::Status loaded = LoadProgram("/bin/busybox", arguments, environment, table, context,
//   heap);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_LOAD_PROGRAM_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_LOAD_PROGRAM_H_

#include <span>
#include <string>

#include "dune/user.h"
#include "libdune/ring0_backend/own_table.h"

namespace dune::ring0 {

absl::Status LoadProgram(const std::string& path, std::span<const std::string> arguments,
                         std::span<const std::string> environment, OwnTable& table,
                         UserContext& context, std::uintptr_t& heap);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_LOAD_PROGRAM_H_
