// What a guest's warden is asked: about faults, and about system calls that could not use an address.
#ifndef DUNEBOX_SANDBOX_PLUGIN_WARDED_CALL_H_
#define DUNEBOX_SANDBOX_PLUGIN_WARDED_CALL_H_

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/engine.h"
#include "sandbox/plugin/kernel.h"

namespace dunebox::plugin {

// Of the access that a page fault is about.
MemoryFault::Access AccessOf(const runtime::Fault& fault);

// Nothing: the instruction is to be executed again; else what is missing, as far as that is known.
std::optional<std::string> MendFault(Warden* warden, const runtime::Fault& fault, std::uint64_t instruction);
// As PluginKernel::Call, and again when something was mended.
hostcalls::SyscallResult MakeWardedCall(PluginKernel& kernel, PluginThread& thread,
                                        const hostcalls::Request& request);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_WARDED_CALL_H_
