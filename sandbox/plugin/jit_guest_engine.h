// Engine jit with isolation `seg`, for GuestEngine::Create.
#ifndef DUNEBOX_SANDBOX_PLUGIN_JIT_GUEST_ENGINE_H_
#define DUNEBOX_SANDBOX_PLUGIN_JIT_GUEST_ENGINE_H_

#include <memory>

#include "sandbox/plugin/guest_engine.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<GuestEngine>> CreateJitEngine(const Policy& policy,
                                                             memory::AddressSpace& space,
                                                             std::shared_ptr<const runtime::SharedCode> shared);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_JIT_GUEST_ENGINE_H_
