#include "sandbox/plugin/guest_engine.h"

#include <utility>

#include "sandbox/plugin/jit_guest_engine.h"
#include "sandbox/plugin/kvm_guest_engine.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<GuestEngine>> GuestEngine::Create(const Policy& policy,
                                                                 memory::AddressSpace& space,
                                                                 std::shared_ptr<const runtime::SharedCode> shared) {
  switch (policy.engine) {
    case Engine::kAuto:
    case Engine::kJit:
      return CreateJitEngine(policy, space, std::move(shared));
    case Engine::kKvm:
      return CreateKvmEngine(policy, space);
  }
  return absl::InvalidArgumentError("no such engine");
}

}  // namespace dunebox::plugin
