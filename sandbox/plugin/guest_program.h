// The program that every sandbox starts with (guest/main.c), as a file of this process's memory that is made
// once and shared by all of them.
#ifndef DUNEBOX_SANDBOX_PLUGIN_GUEST_PROGRAM_H_
#define DUNEBOX_SANDBOX_PLUGIN_GUEST_PROGRAM_H_

#include "absl/status/statusor.h"
#include "hostcalls/memory/address.h"
#include "runtime/loader/program.h"

namespace dunebox::plugin {

// Its file, once a process: by who can make none later.
absl::Status MakeGuestProgram();
absl::StatusOr<loader::Program> OpenGuestProgram(const GuestRange& window);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_GUEST_PROGRAM_H_
