// The gates of a window: pages of their own, there before any program begins in it and whichever does.
//
//   absl::StatusOr<PluginTable> table = PutGates(space);   // the gates' addresses, and no functions
#ifndef DUNEBOX_SANDBOX_PLUGIN_GATE_PAGES_H_
#define DUNEBOX_SANDBOX_PLUGIN_GATE_PAGES_H_

#include "absl/status/statusor.h"
#include "runtime/memory/address_space.h"
#include "sandbox/plugin/guest/gates.h"

namespace dunebox::plugin {

absl::StatusOr<PluginTable> PutGates(memory::AddressSpace& space);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_GATE_PAGES_H_
