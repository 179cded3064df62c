#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/worker/remote_guest.h"

namespace dunebox::plugin {

absl::StatusOr<std::unique_ptr<Guest>> MakeGuest(const Policy& policy, std::uint64_t random) {
  if (policy.demand == Demand::kTwoWalls) return worker::RemoteGuest::Create(policy, random);
  return Instance::Create(policy, random);
}

absl::StatusOr<std::unique_ptr<Guest>> CloneGuest(const Policy& policy,
                                                  const InstanceSnapshot& snapshot) {
  return Instance::Create(policy, snapshot);
}

absl::StatusOr<std::unique_ptr<Guest>> FirstGuest(const Policy& policy, InstanceSnapshot& snapshot) {
  return Instance::CreateFirst(policy, snapshot);
}

}  // namespace dunebox::plugin
