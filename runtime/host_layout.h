// The user half has to be empty when a session starts: one bit of an address decides whose memory
// it is. [DESIGN D2]
//
// With an unlimited stack, `setarch -L` or the legacy sysctl the kernel puts the runtime itself
// there; then the runtime executes itself again with a finite stack and a clean personality.
#ifndef DUNEBOX_RUNTIME_HOST_LAYOUT_H_
#define DUNEBOX_RUNTIME_HOST_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace dunebox::runtime {

// The first line of a /proc/self/maps text that lies in the user half. Pure.
std::optional<std::string> MappingInUserHalf(std::string_view maps);

// OK when the user half is empty. Re-executes the program once when it is not (and then does not
// return); an error when even that did not help.
absl::Status EnsureUserHalfIsFree();

// The stack limit the caller had, also when EnsureUserHalfIsFree had to change it for us.
std::uint64_t CallerStackLimit();

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_HOST_LAYOUT_H_
