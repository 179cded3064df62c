// The handlers of calls.inc, each declared by its row.
#ifndef DUNEBOX_SANDBOX_PLUGIN_CALLS_H_
#define DUNEBOX_SANDBOX_PLUGIN_CALLS_H_

#include "hostcalls/result.h"
#include "sandbox/plugin/kernel.h"

namespace dunebox::plugin::calls {

#define PLUGIN_CALL(name, handler) hostcalls::SyscallResult handler(const Calling& call);
#include "sandbox/plugin/calls.inc"
#undef PLUGIN_CALL

}  // namespace dunebox::plugin::calls

#endif  // DUNEBOX_SANDBOX_PLUGIN_CALLS_H_
