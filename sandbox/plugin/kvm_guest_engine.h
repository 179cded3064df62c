// Engine kvm, for GuestEngine::Create: a virtual machine whose memory is the window. kUnavailable where there is none, or
// none as the policy's least_isolation has it.
#ifndef DUNEBOX_SANDBOX_PLUGIN_KVM_GUEST_ENGINE_H_
#define DUNEBOX_SANDBOX_PLUGIN_KVM_GUEST_ENGINE_H_

#include <memory>

#include "sandbox/plugin/guest_engine.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<GuestEngine>> CreateKvmEngine(const Policy& policy,
                                                             memory::AddressSpace& space);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_KVM_GUEST_ENGINE_H_
