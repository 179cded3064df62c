// The names of a static program's functions, in its own window: there they are in every snapshot, clone and saved
// sandbox of it like the rest of its memory. A program that changes them changes what the host finds, as one does
// that changes its code; what is read here is not to be trusted more than that.
//
//   absl::StatusOr<std::uint64_t> names = PutNames(space, symbols, bias);
//   std::optional<FoundName> deflate = FindName(memory, *names, "deflate");
#ifndef DUNEBOX_SANDBOX_PLUGIN_GUEST_NAMES_H_
#define DUNEBOX_SANDBOX_PLUGIN_GUEST_NAMES_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "hostcalls/memory/guest_memory.h"
#include "runtime/loader/program_symbols.h"
#include "runtime/memory/address_space.h"

namespace dunebox::plugin {

// Where they are, in memory of their own. `bias`: what the program's addresses as linked are away from those it has.
absl::StatusOr<std::uint64_t> PutNames(memory::AddressSpace& space,
                                       const loader::ProgramSymbols& symbols, std::uint64_t bias);

struct FoundName {
  std::uint64_t address = 0;
  bool is_indirect = false;  // of a function that returns the address
};
// Nothing: there is no such name.
std::optional<FoundName> FindName(const hostcalls::GuestMemory& memory, std::uint64_t names,
                                  std::string_view name);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_GUEST_NAMES_H_
