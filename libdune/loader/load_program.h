// Puts a static program into an empty table, in pages of its own, with a stack as the ABI wants
// it. [abi §3.4]
//
//   absl::Status loaded = LoadStaticProgram("/bin/busybox", arguments, environment, places, table, context, heap);
#ifndef DUNEBOX_LIBDUNE_LOADER_LOAD_PROGRAM_H_
#define DUNEBOX_LIBDUNE_LOADER_LOAD_PROGRAM_H_

#include <span>
#include <string>

#include "dune/user.h"
#include "libdune/backend.h"
#include "libdune/loader/static_program.h"

namespace dune {

absl::Status LoadStaticProgram(const std::string& path, std::span<const std::string> arguments,
                               std::span<const std::string> environment, const UserPlaces& places,
                               PageTable::Implementation& table, UserContext& context,
                               std::uintptr_t& heap);

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_LOADER_LOAD_PROGRAM_H_
