#include "sandbox/plugin/guest_engine.h"

#include "sandbox/plugin/jit_guest_engine.h"
#include "sandbox/plugin/kvm_guest_engine.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<GuestEngine>> GuestEngine::Create(const Policy& policy,
                                                                 memory::AddressSpace& space) {
  switch (policy.engine) {
    case Engine::kAuto:
    case Engine::kJit:
      return CreateJitEngine(policy, space);
    case Engine::kKvm:
      return CreateKvmEngine(space);
  }
  return absl::InvalidArgumentError("no such engine");
}

}  // namespace dunebox::plugin
